//! The terminal's width and modes. While an answer is printed, what is typed is not echoed; every way out of the
//! program restores the modes that it began with.

/// Columns of the terminal; `None` if there is none, or if it is too narrow to wrap words.
pub fn columns() -> Option<usize> {
    const NARROWEST: usize = 20;
    let columns = usize::from(terminal_size::terminal_size()?.0.0);
    (columns >= NARROWEST).then_some(columns)
}

#[cfg(unix)]
pub use unix::{Quiet, remember, restore};

#[cfg(unix)]
mod unix {
    use std::io::{self, IsTerminal};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// The modes in which the program began.
    static BEGAN: OnceLock<libc::termios> = OnceLock::new();
    /// Whether a [`Quiet`] lives.
    static QUIET: AtomicBool = AtomicBool::new(false);

    /// Remembers the terminal's modes. From now on SIGTERM and SIGHUP restore them before they end the program, and a
    /// program that was stopped by Ctrl-Z continues as it was.
    ///
    /// Does nothing if stdin or stdout is not a terminal: the modes then belong to another program of the pipeline, for
    /// example a pager.
    pub fn remember() {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return;
        }
        // SAFETY: an all-zero `termios` is valid, and `tcgetattr` writes one or fails.
        let modes = unsafe {
            let mut modes = std::mem::zeroed();
            (libc::tcgetattr(libc::STDIN_FILENO, &raw mut modes) == 0).then_some(modes)
        };
        if modes.is_some_and(|modes| BEGAN.set(modes).is_ok()) {
            handle(libc::SIGTERM, end);
            handle(libc::SIGHUP, end);
            handle(libc::SIGCONT, resume);
        }
    }

    fn handle(signal: i32, handler: extern "C" fn(i32)) {
        // SAFETY: both handlers call only functions that a signal handler may call. What nohup ignores stays ignored.
        unsafe {
            if libc::signal(signal, handler as *const () as libc::sighandler_t) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }

    /// The shell has changed the modes meanwhile.
    extern "C" fn resume(_: i32) {
        if QUIET.load(Ordering::SeqCst) {
            switch_echo_off();
        }
    }

    extern "C" fn end(signal: i32) {
        restore();
        // SAFETY: both may be called in a signal handler. The signal is delivered again after the handler has returned,
        // and then ends the program.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }

    /// Restores the modes in which the program began. A signal handler may call it.
    pub fn restore() {
        BEGAN.get().into_iter().for_each(set);
    }

    fn switch_echo_off() {
        if let Some(modes) = BEGAN.get() {
            let mut quiet = *modes;
            quiet.c_lflag &= !(libc::ECHO | libc::ECHONL);
            set(&quiet);
        }
    }

    /// Does nothing in the background, where changing the modes would stop the program.
    fn set(modes: &libc::termios) {
        // SAFETY: the three calls take an open file descriptor and a valid `termios`.
        unsafe {
            if libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() {
                libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, modes);
            }
        }
    }

    /// While it lives, what is typed is not echoed. It is read later: by the next prompt, or by the shell.
    pub struct Quiet {
        /// Whether another one lived already, which restores the modes.
        nested: bool,
    }

    impl Quiet {
        pub fn begin() -> Self {
            let nested = QUIET.swap(true, Ordering::SeqCst);
            switch_echo_off();
            Quiet { nested }
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            if !self.nested {
                QUIET.store(false, Ordering::SeqCst);
                restore();
            }
        }
    }
}

#[cfg(not(unix))]
pub use other::{Quiet, remember, restore};

/// Other terminals echo only while a line is read.
#[cfg(not(unix))]
mod other {
    pub fn remember() {}

    pub fn restore() {}

    pub struct Quiet(());

    impl Quiet {
        pub fn begin() -> Self {
            Quiet(())
        }
    }
}
