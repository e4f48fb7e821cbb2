//! What the running program tells about itself.

pub mod logs;
