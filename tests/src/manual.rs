//! Runs the commands of the documents: the fenced blocks `sh` and `console` of a page, in order, in one shell over a
//! real `up` with its sandbox. HTML comments above a block say what is particular about it ([`Note`]).

mod blocks;
mod compare;
mod script;

pub use blocks::{Block, Note, Step, blocks, steps};
pub use compare::difference;
pub use script::{Failure, Ports, Settings, run_page};
