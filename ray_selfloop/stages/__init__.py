"""What each kind of stage computes: from a stage and a store to a published record."""
