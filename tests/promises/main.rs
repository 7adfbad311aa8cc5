//! One binary of suites, named for the promises they keep.

mod arrows;
mod book;
mod cli;
mod cuts;
mod diagnostics;
mod errors;
mod feedback;
mod fixture;
mod guards;
mod kill;
mod manners;
mod order;
mod paging;
mod parts;
mod plan;
mod powerloss;
mod real;
mod real_limits;
mod resume;
mod retries;
mod scene;
mod secrets;
mod shipped;
mod signals;
mod way;
