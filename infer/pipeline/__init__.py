"""From pictures to a distilled set and its comparison."""
