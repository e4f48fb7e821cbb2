//! docs/database.md is what OpsAdmin's API servers are written by: what it says is tried here.

use super::fixture::*;
