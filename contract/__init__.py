"""What every layer agrees on: event, views, measures, sketches, kernel, settings, errors. Pure: no engine is touched."""
