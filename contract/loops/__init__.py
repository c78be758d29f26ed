"""All compiled loops. Import them in the function that needs them: Numba takes more than a second to load,
and most commands never get here."""
