//! The terminal while the viewer has it, and how it is given back: at the end, at a panic, before a stop.

use std::io::{self, Stdout, Write};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;

/// Raw, on the other screen, without a cursor, as long as the value lives.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn take() -> io::Result<Screen> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The message is for the screen that stays.
            give_back();
            before(panic);
        }));
        enter()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        terminal
            .map(|terminal| Screen { terminal })
            .inspect_err(|_| give_back())
    }

    /// Stops this process as the shell's Ctrl-Z does; returns when it goes on.
    pub(super) fn stop_here(&mut self) -> io::Result<()> {
        give_back();
        // SAFETY: kill takes two numbers and touches no memory of ours. SIGSTOP, because SIGTSTP is handled here.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        self.again()
    }

    /// After a stop somebody else may have written here, and the shell has set the terminal as it likes it.
    pub(super) fn again(&mut self) -> io::Result<()> {
        enter()?;
        self.clear()
    }

    /// The next frame is drawn whole. `Terminal::clear` would ask the terminal where its cursor is, and the answer goes to the
    /// thread that reads keys.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal
            .resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Twice does no harm, and a terminal that is gone needs nothing.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = io::stdout().flush();
}
