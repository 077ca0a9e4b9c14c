//! The loop: keys, news, signals and time in, frames out. Nothing here waits for the daemon.

use std::io;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEvent};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::link::{self, Asked};
use super::model::act::Effect;
use super::model::{Model, News};
use super::screen::Screen;
use super::view::theme::Theme;
use super::{input, view};
use crate::failure::Failure;
use crate::reach::Target;
use crate::signals::{self, Signals};
use crate::{local_time, send};

/// News that wait for the loop; when it is full the connection waits.
const NEWS: usize = 64;
/// Ages are redrawn so often where nothing comes.
const TICK: Duration = Duration::from_millis(500);
/// What comes closer together than that is one frame.
const FRAME: Duration = Duration::from_millis(50);

/// From the terminal.
enum Typed {
    Key(KeyEvent),
    Resized,
    /// There is no terminal any more.
    Ended,
}

/// Shows the model until q or a signal. The exit code.
pub(super) async fn show(
    target: &Target,
    mut model: Model,
    theme: Theme,
    interval: Duration,
) -> Result<u8, Failure> {
    // Before any thread: theirs is the same mask.
    let ending = Signals::install()?;
    let failed = |error: io::Error| Failure::failed(format!("cannot use the terminal: {error}"));
    let mut stops = signal(SignalKind::from_raw(libc::SIGTSTP)).map_err(failed)?;
    let mut resumed = signal(SignalKind::from_raw(libc::SIGCONT)).map_err(failed)?;
    let mut screen = Screen::take().map_err(failed)?;
    let mut typed = keys();
    let (tell, mut news) = mpsc::channel(NEWS);
    let (ask, asked) = watch::channel(asked(&model, interval));
    let (order, orders) = mpsc::channel(1);
    let link = link::keep(target, asked, orders, tell);
    tokio::pin!(link);
    let began = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draw_at: Option<Instant> = Some(began);
    loop {
        let until_drawn = async {
            match draw_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let soon = || Some(Instant::now() + FRAME);
        tokio::select! {
            biased;
            number = ending.asked_to_end() => return Ok(signals::exit_code(number)),
            _ = stops.recv() => {
                screen.stop_here().map_err(failed)?;
                draw_at = Some(Instant::now());
            }
            _ = resumed.recv() => {
                screen.again().map_err(failed)?;
                draw_at = Some(Instant::now());
            }
            typed = typed.recv() => {
                let now_s = began.elapsed().as_secs_f64();
                draw_at = Some(Instant::now());
                let key = match typed {
                    Some(Typed::Key(key)) => key,
                    Some(Typed::Resized) => continue,
                    Some(Typed::Ended) | None => return Err(Failure::failed("the terminal is gone")),
                };
                let Some(action) = input::action(key, model.keys()) else { continue };
                match model.act(action, now_s, send::operator) {
                    Some(Effect::Quit) => return Ok(0),
                    Some(Effect::Suspend) => screen.stop_here().map_err(failed)?,
                    Some(Effect::Redraw) => screen.clear().map_err(failed)?,
                    Some(Effect::Ask) => { ask.send_replace(self::asked(&model, interval)); }
                    Some(Effect::Send(what)) => {
                        let sent = order.try_send(*what);
                        if sent.is_err() {
                            let why = "it was not sent: the order before it is still on its way".to_owned();
                            model.hear(News::OrderEnded(Err(why)), now_s, local_time::now_unix_s());
                        }
                    }
                    None => {}
                }
            }
            () = until_drawn => {
                draw_at = None;
                let now_s = began.elapsed().as_secs_f64();
                let drawn = screen.terminal.draw(|frame| {
                    view::draw(&model, theme, now_s, frame.area(), frame.buffer_mut());
                });
                drawn.map_err(failed)?;
            }
            Some(heard) = news.recv() => {
                let now_s = began.elapsed().as_secs_f64();
                model.hear(heard, now_s, local_time::now_unix_s());
                let next = self::asked(&model, interval);
                ask.send_if_modified(|asked| {
                    let other = *asked != next;
                    *asked = next;
                    other
                });
                draw_at = draw_at.or_else(soon);
            }
            _ = tick.tick() => draw_at = draw_at.or_else(soon),
            () = &mut link => return Err(Failure::failed("the connection's task has ended")),
        }
    }
}

fn asked(model: &Model, interval: Duration) -> Asked {
    Asked {
        run: model.run.clone(),
        id: model.shown_id().map(str::to_owned),
        attempt: model.shown_run().map_or(0, |run| run.attempt),
        rank: model.rank().map(|rank| rank.rank),
        span_s: model.span_s(),
        interval,
    }
}

/// Reading a terminal blocks, so a thread of its own does it. It ends with the process.
fn keys() -> mpsc::Receiver<Typed> {
    let (tell, typed) = mpsc::channel(256);
    std::thread::spawn(move || {
        loop {
            let what = match event::read() {
                Ok(Event::Key(key)) => Typed::Key(key),
                Ok(Event::Resize(..)) => Typed::Resized,
                Ok(_) => continue,
                Err(_) => Typed::Ended,
            };
            let last = matches!(what, Typed::Ended);
            if tell.blocking_send(what).is_err() || last {
                return;
            }
        }
    });
    typed
}
