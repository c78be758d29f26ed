"""The live page: asks the stack on a timer, once for all who look, and shows what it was told and what it was not."""
