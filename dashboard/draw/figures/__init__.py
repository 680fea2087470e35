"""Figures of one quantity that several pages draw. Pure: datasets in, figures and sentences out."""
