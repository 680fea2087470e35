"""From data to pictures: colours, panels, charts, files for a slide."""
