//! Model files: metadata, the tensor table, and reading ranges of them.
