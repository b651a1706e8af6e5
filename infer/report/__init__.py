"""What a person looks at after a run: a table and pictures."""
