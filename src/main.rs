//! Arguments in, exit code out.

use std::process::ExitCode;

/// Pages are large allocations that come and go; the system's allocator gives their memory back
/// to the kernel each time and pays for it again in page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gleaner::cli::main()
}
