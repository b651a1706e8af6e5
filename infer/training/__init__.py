"""Training with Lightning: teachers, compensators, students."""
