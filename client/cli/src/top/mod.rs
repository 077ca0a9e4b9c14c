//! `hookbus top`: one screen that stays, over the same questions as the other verbs that look.
//!
//! ```text
//! daemon --link--> News --\                      /--> view --> cells
//! terminal --input--> Action --> model (pure) --+
//!                                                \--> Effect --> live (asks, sends, quits)
//! ```
//!
//! | file | what |
//! |---|---|
//! | here | the verb: a frame, or the loop |
//! | `live` | the loop |
//! | `link` | the way to the daemon, with its reconnects |
//! | `screen` | the terminal, and how it is given back |
//! | `input` | from a key to what is meant |
//! | `model` | what is known and what is looked at |
//! | `view` | from the model to cells |
//! | `text` | texts that fit, numbers that may be unknown |

mod input;
mod link;
mod live;
mod model;
mod screen;
mod text;
mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::args::TopArgs;
use crate::failure::Failure;
use crate::local_time;
use crate::reach::{self, Target};
use crate::terminal::{self, Style};
use link::Asked;
use model::Model;
use view::theme::Theme;

/// Shows until q, or one frame.
pub(crate) async fn top(target: &Target, args: TopArgs) -> Result<u8, Failure> {
    let theme = Theme {
        colour: Style::stdout().is_on(),
    };
    let mut model = Model::new(&args.run, args.interval, args.arm);
    // What is wrong with the command line is said before the screen is taken.
    let address = target.resolve()?;
    model.address = address.map_or("the daemon".to_owned(), |address| address.to_string());
    let interval = Duration::from_secs_f64(args.interval);
    if args.once {
        return once(target, model, theme, &args).await;
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard output is no terminal: write one frame with --once",
        ));
    }
    live::show(target, model, theme, interval).await
}

async fn once(
    target: &Target,
    mut model: Model,
    theme: Theme,
    args: &TopArgs,
) -> Result<u8, Failure> {
    let inspector = reach::reach(target).await?;
    let mut asked = Asked {
        run: args.run.clone(),
        id: None,
        attempt: 0,
        rank: None,
        span_s: model.span_s(),
        interval: Duration::from_secs_f64(args.interval),
    };
    let now_unix_s = local_time::now_unix_s();
    for news in link::once(inspector, &mut asked).await? {
        model.hear(news, 0.0, now_unix_s);
    }
    let (width, height) = terminal::size();
    let area = Rect {
        x: 0,
        y: 0,
        width: args.width.or(width).unwrap_or(80).max(20),
        height: args.height.or(height).unwrap_or(24).max(5),
    };
    let mut buffer = Buffer::empty(area);
    view::draw(&model, theme, 0.0, area, &mut buffer);
    let text = if theme.colour {
        view::coloured(&buffer)
    } else {
        view::plain(&buffer)
    };
    terminal::answer(&text)?;
    Ok(0)
}
