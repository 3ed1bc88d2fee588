//! A program on its own terminal, and functions that type and read the screen.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::PATIENCE;
use super::running::{CLOCK, SLOW};

/// The terminal and the program on it.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser<Window>,
    /// The number of bytes that the program has written.
    pub drawn: usize,
    /// The first bytes of an incomplete `U+FFFD`.
    incomplete: Vec<u8>,
}

pub const COLUMNS: u16 = 100;

/// The replacement on the screen for `U+FFFD`, which the `vt100` crate does not draw.
pub const REPLACEMENT: &str = "\u{25af}";

/// The window attributes that a program sets.
#[derive(Default)]
struct Window {
    title: String,
}

impl vt100::Callbacks for Window {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.title = String::from_utf8_lossy(title).into_owned();
    }
}

impl Terminal {
    /// Starts the program without a home directory, with these environment variables.
    pub fn start(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Terminal {
        let size = PtySize {
            rows: 40,
            cols: COLUMNS,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(arguments);
        command.env("TERM", "xterm");
        command.env(CLOCK, SLOW);
        // This is not a directory, so no run leaves files for the next.
        command.env("HOME", "/dev/null");
        command.cwd(std::env::temp_dir());
        command.env_remove("XDG_CONFIG_HOME");
        command.env_remove("XDG_STATE_HOME");
        command.env_remove("CHAT_PASSWORD");
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            keys: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            output,
            screen: vt100::Parser::new_with_callbacks(40, COLUMNS, 1000, Window::default()),
            drawn: 0,
            incomplete: Vec::new(),
        }
    }

    fn draw(&mut self, bytes: &[u8]) {
        self.drawn += bytes.len();
        let sign = "\u{fffd}".as_bytes();
        let mut out = Vec::new();
        for &byte in bytes {
            self.incomplete.push(byte);
            if self.incomplete == sign {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                self.incomplete.clear();
            } else if !sign.starts_with(&self.incomplete) {
                // The last byte may begin another replacement character.
                let keep = usize::from(byte == sign[0]);
                let done = self.incomplete.len() - keep;
                out.extend(self.incomplete.drain(..done));
            }
        }
        self.screen.process(&out);
    }

    pub fn type_text(&mut self, keys: impl AsRef<[u8]>) {
        self.keys.write_all(keys.as_ref()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Types a line and Enter.
    pub fn type_line(&mut self, line: &str) {
        self.type_text(line);
        self.type_text("\r");
    }

    pub fn process_id(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    pub fn resize(&mut self, rows: u16, cols: u16) {
        let size = PtySize {
            rows,
            cols,
            pixel_width: 0,
            pixel_height: 0,
        };
        self.master.resize(size).unwrap();
        self.screen.screen_mut().set_size(rows, cols);
    }

    /// Returns `true` if the program has bracketed paste switched on.
    pub fn is_bracketed_paste_on(&mut self) -> bool {
        self.contents();
        self.screen.screen().bracketed_paste()
    }

    /// The current contents of the screen.
    pub fn contents(&mut self) -> String {
        while let Ok(bytes) = self.output.try_recv() {
            self.draw(&bytes);
        }
        self.screen.screen().contents()
    }

    /// The window title that the program has set.
    pub fn title(&mut self) -> String {
        self.contents();
        self.screen.callbacks().title.clone()
    }

    /// The line being edited, with its prompt but without the time before it.
    pub fn line(&mut self) -> String {
        let contents = self.contents();
        let line = contents.trim_end().lines().next_back().unwrap_or_default();
        line.get("00:00 ".len()..).unwrap_or_default().to_owned()
    }

    /// Waits until `wanted` returns `true`.
    pub fn wait_for(&mut self, what: &str, mut wanted: impl FnMut(&mut Terminal) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            if wanted(self) {
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                panic!(
                    "did not appear: {what}; line {:?}; on the screen:\n{}",
                    self.line(),
                    self.contents()
                );
            }
            // The condition may not depend on this output alone, so check it again soon.
            match self
                .output
                .recv_timeout(left.min(Duration::from_millis(50)))
            {
                Ok(bytes) => self.draw(&bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    assert!(
                        wanted(self),
                        "the program exited without {what}; on the screen:\n{}",
                        self.contents()
                    );
                    return;
                }
            }
        }
    }

    pub fn wait_for_text(&mut self, text: &str) {
        self.wait_for(text, |terminal| terminal.contents().contains(text));
    }

    /// Waits until the line being edited begins with `prompt`.
    pub fn wait_for_prompt(&mut self, prompt: &str) {
        self.wait_for(&format!("the prompt {prompt}"), |terminal| {
            terminal.line().starts_with(prompt)
        });
    }

    /// Waits until the program exits, and returns its exit code.
    pub fn wait_for_exit(&mut self) -> u32 {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.exit_code();
            }
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.draw(&bytes);
            }
            if Instant::now() > until {
                panic!(
                    "the program does not exit; on the screen:\n{}",
                    self.contents()
                );
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
