//! `hookbus hooks`.
//!
//! | file | verb |
//! |---|---|
//! | `list` | without one: the hooks that there are |
//! | `python` | `serve` and `test`: hooks in Python, by the interpreter that has the package |

mod list;
mod python;

use crate::args::{HooksArgs, HooksVerb};
use crate::failure::Failure;
use crate::reach::Target;

/// Lists, serves or tests.
pub(crate) async fn hooks(target: &Target, args: HooksArgs) -> Result<u8, Failure> {
    match args.verb {
        None => list::hooks(target, args.output.json).await,
        Some(HooksVerb::Serve(serve)) => python::serve(target, &serve),
        Some(HooksVerb::Test(test)) => python::test(target, &test).await,
    }
}
