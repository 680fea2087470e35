"""What a visitor chooses with: the sidebar and the controls that pages share."""
