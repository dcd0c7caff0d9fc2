"""What people look at: terminal tables and files for editors. Nothing here simulates."""
