"""The code that the book's chapters import; each chapter's import line says where a thing lives."""
