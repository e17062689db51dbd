//! The terminal's size and modes. While an answer is printed, what is typed is not echoed; every way out of the program
//! restores the modes that it began with.

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
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// The terminal's file descriptor and the modes in which the program began.
    static BEGAN: OnceLock<(i32, libc::termios)> = OnceLock::new();
    /// Whether the modes may have been changed.
    static CHANGED: AtomicBool = AtomicBool::new(false);

    /// Remembers the terminal's modes. From now on SIGTERM and SIGHUP restore them before they end the program.
    pub fn remember() {
        let found = (0..3).find_map(|fd| modes(fd).map(|modes| (fd, modes)));
        let Some(found) = found else { return };
        if BEGAN.set(found).is_ok() {
            for signal in [libc::SIGTERM, libc::SIGHUP] {
                // SAFETY: `end` calls only functions that a signal handler may call. What nohup ignores stays ignored.
                unsafe {
                    if libc::signal(signal, end as *const () as libc::sighandler_t) == libc::SIG_IGN {
                        libc::signal(signal, libc::SIG_IGN);
                    }
                }
            }
        }
    }

    extern "C" fn end(signal: i32) {
        restore_always();
        // SAFETY: both may be called in a signal handler. The signal is delivered again after the handler has returned,
        // and then ends the program.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }

    /// Restores the modes in which the program began, if they were changed.
    pub fn restore() {
        if CHANGED.swap(false, Ordering::SeqCst) {
            restore_always();
        }
    }

    fn restore_always() {
        if let Some((fd, modes)) = BEGAN.get() {
            set(*fd, modes);
        }
    }

    fn modes(fd: i32) -> Option<libc::termios> {
        // SAFETY: an all-zero `termios` is valid, and `tcgetattr` writes one or fails.
        unsafe {
            let mut modes = std::mem::zeroed();
            (libc::tcgetattr(fd, &raw mut modes) == 0).then_some(modes)
        }
    }

    /// Does nothing in the background, where changing the modes would stop the program.
    fn set(fd: i32, modes: &libc::termios) {
        // SAFETY: the three calls take a file descriptor and a valid `termios`.
        unsafe {
            if libc::tcgetpgrp(fd) == libc::getpgrp() {
                libc::tcsetattr(fd, libc::TCSANOW, modes);
            }
        }
    }

    /// While it lives, what is typed is not echoed. It is read later: by the next prompt, or by the shell.
    pub struct Quiet(());

    impl Quiet {
        pub fn begin() -> Self {
            if let Some((fd, modes)) = BEGAN.get() {
                let mut quiet = *modes;
                quiet.c_lflag &= !(libc::ECHO | libc::ECHONL);
                CHANGED.store(true, Ordering::SeqCst);
                set(*fd, &quiet);
            }
            Quiet(())
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            restore();
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
