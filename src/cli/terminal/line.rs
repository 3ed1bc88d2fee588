//! The line being typed: readline's usual keys on rustyline's line buffer.

use std::collections::BTreeMap;

use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer, WordAction};
use rustyline::{At, Movement, Word};

use super::history::LineHistory;
use super::keys::Key;
use portal_wire::{Shown, for_each_shown};

/// Completes the last word before the cursor. Returns the word's byte offset and its completions,
/// each with the text that follows it.
pub type Complete = Box<dyn Fn(&str) -> (usize, Vec<String>) + Send>;

/// Maximum length of a line, in bytes. Keys beyond it do nothing.
const LONGEST_LINE: usize = 64 * 1024;
/// Maximum number of killed texts and of undo steps.
const STEPS: usize = 100;

/// The outcome of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edited {
    /// The line may have changed.
    More,
    /// Enter. Contains the line, which is now empty.
    Line(String),
    /// Ctrl-D or Ctrl-C on an empty line.
    End,
}

/// A line with its cursor, kill ring, undo list and history.
pub(super) struct LineEditor {
    buffer: LineBuffer,
    kills: KillRing,
    undo: Vec<(String, usize)>,
    pub(super) history: LineHistory,
    complete: Complete,
    /// The position in the history. The line being typed comes after the last entry.
    at: usize,
    /// The lines in the history that were edited, and the line being typed, until Enter.
    edits: BTreeMap<usize, String>,
    search: Option<Search>,
    last: Last,
}

/// The effect of the last key, insofar as the next key depends on it.
enum Last {
    Other,
    Text,
    Kill,
    /// Text of this size was inserted; `turn` texts have been killed after it.
    Yank {
        size: usize,
        turn: usize,
    },
    /// Tab has inserted one of these words at this offset. The last one is the line being typed.
    Completion {
        start: usize,
        words: Vec<String>,
        shown: usize,
    },
}

/// A search in the history (Ctrl-R).
struct Search {
    query: String,
    /// False if no earlier line has the query. The line found last stays.
    is_found: bool,
    at: usize,
    before: (String, usize),
}

#[derive(Default)]
struct KillRing {
    killed: Vec<String>,
    is_killing: bool,
    /// The next kill is appended to the last one.
    appends: bool,
}

impl DeleteListener for KillRing {
    fn start_killing(&mut self) {
        self.is_killing = true;
    }

    fn delete(&mut self, _: usize, text: &str, direction: Direction) {
        if !self.is_killing {
            return;
        }
        match (self.killed.last_mut().filter(|_| self.appends), direction) {
            (Some(last), Direction::Forward) => last.push_str(text),
            (Some(last), Direction::Backward) => last.insert_str(0, text),
            (None, _) => push(&mut self.killed, text.to_owned()),
        }
        self.appends = true;
    }

    fn stop_killing(&mut self) {
        self.is_killing = false;
    }
}

impl ChangeListener for KillRing {
    fn insert_char(&mut self, _: usize, _: char) {}
    fn insert_str(&mut self, _: usize, _: &str) {}
    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

fn push<T>(steps: &mut Vec<T>, step: T) {
    if steps.len() == STEPS {
        steps.remove(0);
    }
    steps.push(step);
}

impl LineEditor {
    pub(super) fn new(history: LineHistory, complete: Complete) -> LineEditor {
        LineEditor {
            buffer: LineBuffer::with_capacity(LONGEST_LINE),
            kills: KillRing::default(),
            undo: Vec::new(),
            at: history.lines.len(),
            history,
            complete,
            edits: BTreeMap::new(),
            search: None,
            last: Last::Other,
        }
    }

    pub(super) fn text(&self) -> &str {
        self.buffer.as_str()
    }

    /// The cursor's position in the text, in bytes.
    pub(super) fn cursor(&self) -> usize {
        self.buffer.pos()
    }

    /// The text in place of the prompt during a search in the history.
    pub(super) fn search_prompt(&self) -> Option<String> {
        let Search {
            query, is_found, ..
        } = self.search.as_ref()?;
        let state = if *is_found { "search" } else { "no match" };
        Some(format!("({state}) {query}"))
    }

    /// Stops a search, and keeps the line that it has found.
    pub(super) fn end_search(&mut self) {
        self.search = None;
    }

    /// Removes and returns the line, and clears all state from which a later key could recover it.
    pub(super) fn take_line(&mut self) -> String {
        let line = self.buffer.as_str().to_owned();
        self.set("", 0);
        self.undo.clear();
        self.edits.clear();
        self.at = self.history.lines.len();
        (self.search, self.last) = (None, Last::Other);
        line
    }

    pub(super) fn remember(&mut self, line: &str) {
        self.history.add(line);
        self.at = self.history.lines.len();
    }

    fn set(&mut self, text: &str, cursor: usize) {
        self.buffer.update(text, cursor, &mut KillRing::default());
    }

    pub(super) fn press(&mut self, key: Key) -> Edited {
        let Some(key) = self.press_while_searching(key) else {
            return Edited::More;
        };
        let last = std::mem::replace(&mut self.last, Last::Other);
        self.kills.appends = matches!(last, Last::Kill);
        let before = (self.buffer.as_str().to_owned(), self.buffer.pos());
        // One step of undo per word.
        let continues =
            matches!(last, Last::Text) && matches!(&key, Key::Text(text) if !text.contains(' '));
        let (buffer, kills) = (&mut self.buffer, &mut self.kills);
        match key {
            Key::Enter => return Edited::Line(self.take_line()),
            Key::Ctrl('c' | 'd') if buffer.is_empty() => return Edited::End,
            Key::Ctrl('c') => drop(self.take_line()),
            Key::Text(text) | Key::Paste(text) => {
                buffer.yank(&text, 1, kills);
                self.last = Last::Text;
            }
            Key::AltEnter => drop(buffer.insert('\n', 1, kills)),
            Key::Tab => self.complete_word(last),
            Key::Backspace => self.delete_before(),
            Key::Delete | Key::Ctrl('d') => drop(buffer.delete(1, kills)),
            Key::Left | Key::Ctrl('b') => _ = buffer.move_backward(1),
            Key::Right | Key::Ctrl('f') => _ = buffer.move_forward(1),
            Key::WordLeft | Key::Alt('b') => _ = buffer.move_to_prev_word(Word::Emacs, 1),
            Key::WordRight | Key::Alt('f') => {
                buffer.move_to_next_word(At::AfterEnd, Word::Emacs, 1);
            }
            Key::Home | Key::Ctrl('a') => _ = buffer.move_home(),
            Key::End | Key::Ctrl('e') => _ = buffer.move_end(),
            Key::Ctrl('k') => self.kill(&Movement::EndOfLine),
            Key::Ctrl('u') => self.kill(&Movement::BeginningOfBuffer),
            Key::Ctrl('w') => self.kill(&Movement::BackwardWord(1, Word::Big)),
            Key::AltBackspace => self.kill(&Movement::BackwardWord(1, Word::Emacs)),
            Key::Alt('d') => self.kill(&Movement::ForwardWord(1, At::AfterEnd, Word::Emacs)),
            Key::Ctrl('y') => self.yank(0, None),
            Key::Alt('y') => {
                if let Last::Yank { size, turn } = last {
                    self.yank(turn + 1, Some(size));
                }
            }
            Key::Ctrl('t') => _ = buffer.transpose_chars(kills),
            Key::Alt('t') => _ = buffer.transpose_words(1, kills),
            Key::Alt('u') => _ = buffer.edit_word(WordAction::Uppercase, kills),
            Key::Alt('l') => _ = buffer.edit_word(WordAction::Lowercase, kills),
            Key::Alt('c') => _ = buffer.edit_word(WordAction::Capitalize, kills),
            Key::Up | Key::Ctrl('p') => self.go_up(),
            Key::Down | Key::Ctrl('n') => self.go_down(),
            Key::Ctrl('_') => {
                if let Some((text, cursor)) = self.undo.pop() {
                    self.set(&text, cursor);
                }
                return Edited::More;
            }
            Key::Ctrl('r') => {
                self.search = Some(Search {
                    query: String::new(),
                    is_found: true,
                    at: self.history.lines.len(),
                    before: before.clone(),
                });
            }
            Key::Ctrl(_) | Key::Alt(_) | Key::TooMuch { .. } => {}
        }
        if !continues && self.text() != before.0 {
            push(&mut self.undo, before);
        }
        Edited::More
    }

    /// Deletes what looks like one character before the cursor.
    fn delete_before(&mut self) {
        let cursor = self.cursor();
        let mut last = None;
        for_each_shown(&self.text()[..cursor], |character, shown| {
            last = Some((character, shown))
        });
        match last {
            // This character appears as a replacement character of its own.
            Some((character, Shown::Replaced)) => {
                let start = cursor - character.len_utf8();
                self.buffer.delete_range(start..cursor, &mut self.kills);
                self.buffer.set_pos(start);
            }
            _ => _ = self.buffer.backspace(1, &mut self.kills),
        }
    }

    fn kill(&mut self, movement: &Movement) {
        self.buffer.kill(movement, &mut self.kills);
        self.last = Last::Kill;
    }

    /// Inserts a killed text, the most recent one if `turn` is 0, in place of the last `replaced`
    /// bytes.
    fn yank(&mut self, turn: usize, replaced: Option<usize>) {
        let killed = &self.kills.killed;
        let Some(text) = killed.iter().rev().cycle().nth(turn % killed.len().max(1)) else {
            return;
        };
        let (text, size) = (text.clone(), text.len());
        let none = &mut KillRing::default();
        let fits = match replaced {
            Some(replaced) => self.buffer.yank_pop(replaced, &text, none),
            None => self.buffer.yank(&text, 1, none),
        };
        if fits.is_some() {
            self.last = Last::Yank { size, turn };
        }
    }

    /// Moves to the line above in a text with several lines, and otherwise in the history.
    fn go_up(&mut self) {
        let before = &self.text()[..self.cursor()];
        let Some(end) = before.rfind('\n') else {
            return self.go_to(self.at.checked_sub(1));
        };
        let column = before[end + 1..].chars().count();
        let start = before[..end].rfind('\n').map_or(0, |feed| feed + 1);
        self.move_to_column(start, column);
    }

    fn go_down(&mut self) {
        let (text, cursor) = (self.text(), self.cursor());
        let Some(end) = text[cursor..].find('\n') else {
            return self.go_to(Some(self.at + 1));
        };
        let start = text[..cursor].rfind('\n').map_or(0, |feed| feed + 1);
        let column = text[start..cursor].chars().count();
        self.move_to_column(cursor + end + 1, column);
    }

    fn move_to_column(&mut self, start: usize, column: usize) {
        let line = self.text()[start..].split('\n').next().unwrap_or_default();
        let offset = line
            .char_indices()
            .nth(column)
            .map_or(line.len(), |(offset, _)| offset);
        self.buffer.set_pos(start + offset);
    }

    /// Shows another line in the history. Edits of this one are kept until Enter.
    fn go_to(&mut self, at: Option<usize>) {
        let Some(at) = at.filter(|at| *at <= self.history.lines.len()) else {
            return;
        };
        self.edits.insert(self.at, self.text().to_owned());
        self.at = at;
        let line = self.edits.get(&at).or_else(|| self.history.lines.get(at));
        let line = line.cloned().unwrap_or_default();
        self.set(&line, line.len());
    }

    /// Inserts the next completion.
    fn complete_word(&mut self, last: Last) {
        let (start, words, shown) = match last {
            Last::Completion {
                start,
                words,
                shown,
            } => {
                let next = (shown + 1) % words.len();
                (start, words, next)
            }
            _ => {
                let before = &self.text()[..self.cursor()];
                let (start, found) = (self.complete)(before);
                let typed = before[start..].to_owned();
                if found.is_empty() {
                    return;
                }
                (start, found.into_iter().chain([typed]).collect(), 0)
            }
        };
        let end = self.cursor();
        // A space that is there already is not doubled.
        let word = match self.text()[end..].starts_with(' ') {
            true => words[shown].trim_end(),
            false => &words[shown],
        };
        let word = word.to_owned();
        self.buffer.replace(start..end, &word, &mut self.kills);
        self.buffer.set_pos(start + word.len());
        self.last = Last::Completion {
            start,
            words,
            shown,
        };
    }

    /// Handles a key during a search. Returns the key if there is no search, or if the key has
    /// stopped it.
    fn press_while_searching(&mut self, key: Key) -> Option<Key> {
        let Some(search) = &mut self.search else {
            return Some(key);
        };
        match key {
            Key::Text(text) => search.query.push_str(&text),
            Key::Backspace => {
                search.query.pop();
                search.at = self.history.lines.len();
            }
            Key::Ctrl('r') => search.at = search.at.saturating_sub(1),
            Key::Ctrl('c' | 'g') => {
                let (text, cursor) = search.before.clone();
                self.search = None;
                self.set(&text, cursor);
                return None;
            }
            key => {
                self.search = None;
                return Some(key);
            }
        }
        let (query, from) = (search.query.clone(), search.at);
        let lines = &self.history.lines;
        let is_match = |at: &usize| lines.get(*at).is_some_and(|line| line.contains(&query));
        let found = (0..=from)
            .rev()
            .find(is_match)
            .filter(|_| !query.is_empty());
        search.is_found = found.is_some() || query.is_empty();
        if let Some(at) = found {
            search.at = at;
            let line = lines[at].clone();
            let cursor = line.find(&query).unwrap_or(0);
            self.set(&line, cursor);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn editor(history: &[&str]) -> LineEditor {
        let lines = history.iter().map(|line| (*line).to_owned()).collect();
        let complete: Complete = Box::new(|before: &str| {
            let start = before.rfind(' ').map_or(0, |space| space + 1);
            let names = ["bob ", "bobby "]
                .into_iter()
                .filter(|name| name.starts_with(&before[start..]));
            (start, names.map(str::to_owned).collect())
        });
        LineEditor::new(LineHistory::of(lines), complete)
    }

    /// Types text; `^X` is a control key, `~x` one with Alt, `<` and `>` are Up and Down, `|` is
    /// Tab.
    fn press(editor: &mut LineEditor, keys: &str) {
        let mut keys = keys.chars();
        while let Some(key) = keys.next() {
            let key = match key {
                '^' => Key::Ctrl(keys.next().unwrap().to_ascii_lowercase()),
                '~' => Key::Alt(keys.next().unwrap()),
                '<' => Key::Up,
                '>' => Key::Down,
                '|' => Key::Tab,
                key => Key::Text(key.to_string()),
            };
            assert_eq!(editor.press(key), Edited::More);
        }
    }

    #[test]
    fn the_keys_that_readline_users_know() {
        for (keys, line) in [
            ("one two^A0 ", "0 one two"),
            ("one two^A^F^F^E!", "one two!"),
            ("one two^W", "one "),
            ("one two^U", ""),
            ("one two^A~f^K", "one"),
            ("one two~b~d", "one "),
            ("one two three^W^W^Y", "one two three"),
            ("one two^W^A^Y", "twoone "),
            ("one^U two^U^Y~y", "one"),
            ("ab^T", "ba"),
            ("one~b~u", "ONE"),
            ("one two^_", "one"),
            ("one^U^_", "one"),
            ("hi bo|", "hi bob "),
            ("hi bo||", "hi bobby "),
            ("hi bo|||", "hi bo"),
            ("hi bo there^A~f~f|", "hi bob there"),
            ("abc^C", ""),
            ("abc^A^D", "bc"),
        ] {
            let mut editor = editor(&[]);
            press(&mut editor, keys);
            assert_eq!(editor.text(), line, "{keys}");
        }
    }

    #[test]
    fn a_draft_and_edited_lines_survive_the_way_through_the_history() {
        let mut editor = editor(&["first", "second"]);
        press(&mut editor, "draft<<");
        assert_eq!(editor.text(), "first");
        press(&mut editor, "!>>");
        assert_eq!(editor.text(), "draft");
        press(&mut editor, "<<");
        assert_eq!(editor.text(), "first!");
        assert_eq!(editor.press(Key::Enter), Edited::Line("first!".to_owned()));
        press(&mut editor, "<<");
        assert_eq!(editor.text(), "first", "only until Enter");
    }

    #[test]
    fn ctrl_r_searches_and_ctrl_c_gives_up() {
        let mut editor = editor(&["hello bob", "hello carol", "bye"]);
        press(&mut editor, "draft^Rhello");
        assert_eq!(
            (editor.text(), editor.search_prompt().as_deref()),
            ("hello carol", Some("(search) hello"))
        );
        press(&mut editor, "^R");
        assert_eq!(editor.text(), "hello bob");
        press(&mut editor, "x");
        assert_eq!(
            (editor.text(), editor.search_prompt().as_deref()),
            ("hello bob", Some("(no match) hellox"))
        );
        editor.press(Key::Backspace);
        assert_eq!(editor.search_prompt().as_deref(), Some("(search) hello"));
        press(&mut editor, "^C");
        assert_eq!((editor.text(), editor.search_prompt()), ("draft", None));
        press(&mut editor, "^Rbye");
        assert_eq!(editor.press(Key::Enter), Edited::Line("bye".to_owned()));
    }

    #[test]
    fn up_and_down_move_within_a_text_of_several_lines() {
        let mut editor = editor(&["old"]);
        editor.press(Key::Paste("one\ntwo".to_owned()));
        press(&mut editor, "<!>?");
        assert_eq!(editor.text(), "one!\ntwo?");
    }

    #[test]
    fn an_empty_line_ends_with_ctrl_c_or_ctrl_d() {
        for key in ['c', 'd'] {
            assert_eq!(editor(&[]).press(Key::Ctrl(key)), Edited::End);
        }
    }
}
