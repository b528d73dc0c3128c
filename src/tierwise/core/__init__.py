"""The ground floor: numbers that may be arrays, units, number formats, errors, files. Imports no other room."""
