"""What people and programs see: JSON, figures, exports, the shell."""
