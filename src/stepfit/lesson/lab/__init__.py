"""The live lab: short guided experiments (predict, run, explain), as one Streamlit script."""
