//! `hookbus top`: the verb that stays, and changes a run only where it was armed.

use clap::Args;

use super::look::interval;

const TOP_EXAMPLES: &str = "\
Examples:
  hookbus top                         the run that is training, until q
  hookbus top digits                  by its name or id
  hookbus top --address https://node7:7777 digits
  hookbus top --once --width 160 --height 50 > frame.txt
  hookbus top --arm                   S stops the run and L sets its learning rate, after a typed confirmation

Keys: ? has them all. NO_COLOR is respected; every colour has a sign of its own. A number that could not be taken reads \
`unknown: why`; where the daemon goes away the last frame stays, marked as stale, until it is back.";

#[derive(Debug, Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct TopArgs {
    /// A run's name or id, or LAST for the newest; without it the newest that is training
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    /// How often the numbers are read anew (at least 0.1)
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: f64,

    /// Print one frame and end
    #[arg(long)]
    pub(crate) once: bool,

    /// Allow S (stop) and L (learning rate)
    #[arg(long, conflicts_with = "once")]
    pub(crate) arm: bool,

    /// With --once: columns of the frame [default: COLUMNS, else the terminal's, else 80]
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(20..=1000))]
    pub(crate) width: Option<u16>,

    /// With --once: lines of the frame [default: LINES, else the terminal's, else 24]
    #[arg(long, value_name = "LINES", requires = "once", value_parser = clap::value_parser!(u16).range(5..=1000))]
    pub(crate) height: Option<u16>,
}

#[cfg(test)]
mod tests {
    use crate::args::{Verb, parse};

    #[test]
    fn a_frame_has_a_size_and_nothing_is_armed_by_it() {
        let line = [
            "top", "digits", "--once", "--width", "100", "--height", "30",
        ];
        let Verb::Top(args) = parse(&line).unwrap().verb else {
            panic!("top")
        };
        assert_eq!((args.width, args.height), (Some(100), Some(30)));
        assert_eq!((args.interval, args.arm), (1.0, false));
        for line in [
            &["top", "--width", "80"][..],
            &["top", "--once", "--width", "3"],
            &["top", "--once", "--arm"],
            &["top", "--interval", "0"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
