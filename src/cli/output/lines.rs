//! A line writer that recovers from errors.

use std::io::{self, Write};

/// Writes lines to a file, a pipe or a terminal that can fail and later work again (a full disk, a
/// slow reader). The writer survives every error. It counts the lines that could not be written,
/// and writes the count before the next line. It finishes a partly written line first, so two lines
/// never mix.
pub struct LineWriter<W> {
    out: W,
    /// The unwritten rest of a partly written line.
    torn: Vec<u8>,
    /// The number of lines that are missing if the rest is never written.
    torn_lines: u64,
    /// The number of lines missing since the last count was written.
    missing: u64,
    /// The reason for the first missing line.
    reason: String,
    /// Set if the last write failed.
    is_failing: bool,
}

impl<W: Write> LineWriter<W> {
    pub fn new(out: W) -> LineWriter<W> {
        LineWriter {
            out,
            torn: Vec::new(),
            torn_lines: 0,
            missing: 0,
            reason: String::new(),
            is_failing: false,
        }
    }

    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Continues with a new destination, such as a new file, and drops the rest of a torn line. If
    /// the new destination itself ends in a torn line (`is_torn`), completes that line first.
    pub fn restart(&mut self, is_torn: bool) {
        let lines = std::mem::take(&mut self.torn_lines);
        self.miss(lines, "its file was replaced");
        self.torn = if is_torn { vec![b'\n'] } else { Vec::new() };
    }

    /// Counts lines that are missing for a reason other than a failed write.
    pub fn miss(&mut self, lines: u64, reason: &str) {
        if lines > 0 && self.missing == 0 {
            reason.clone_into(&mut self.reason);
        }
        self.missing += lines;
    }

    /// Counts `lines` as missing because of `error`. Returns the error if the previous write
    /// succeeded.
    pub fn fail(&mut self, lines: usize, error: io::Error) -> io::Result<()> {
        self.miss(lines as u64, &error.to_string());
        if std::mem::replace(&mut self.is_failing, true) {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Writes `lines`, each of which ends in a line feed. If lines are missing, a line with their
    /// count comes first; `notice` formats that line from the count and the reason.
    ///
    /// # Errors
    /// The first error since the last successful write; later errors are not reported. Lines that
    /// were not written are counted.
    pub fn write(
        &mut self,
        lines: &[String],
        notice: impl FnOnce(u64, &str) -> String,
    ) -> io::Result<()> {
        let torn = std::mem::take(&mut self.torn);
        let torn_lines = std::mem::take(&mut self.torn_lines);
        let (written, error) = self.write_bytes(&torn);
        if let Some(error) = error {
            self.keep_torn(&torn[written..], torn_lines);
            return self.fail(lines.len(), error);
        }
        if self.missing > 0 {
            let notice = notice(self.missing, &self.reason).into_bytes();
            let (written, error) = self.write_bytes(&notice);
            if written > 0 {
                let told = std::mem::take(&mut self.missing);
                self.keep_torn(&notice[written..], told);
            }
            if let Some(error) = error {
                return self.fail(lines.len(), error);
            }
        }
        let text = lines.concat().into_bytes();
        let (written, error) = self.write_bytes(&text);
        let Some(error) = error else {
            self.is_failing = false;
            return Ok(());
        };
        let (mut begun, mut start) = (0, 0);
        for line in lines {
            let end = start + line.len();
            if written <= start {
                break;
            }
            if written < end {
                self.keep_torn(&text[written..end], 1);
            }
            (begun, start) = (begun + 1, end);
        }
        self.fail(lines.len() - begun, error)
    }

    fn keep_torn(&mut self, rest: &[u8], lines: u64) {
        if !rest.is_empty() {
            (self.torn, self.torn_lines) = (rest.to_vec(), lines);
        }
    }

    /// Returns the number of bytes written, and the error if not all were.
    fn write_bytes(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Some(error)),
            }
        }
        match self.out.flush() {
            Ok(()) => (written, None),
            Err(error) => (written, Some(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// The outcome of one write to the [`FailingDisk`]: it accepts up to this many bytes, or fails.
    type Step = Result<usize, io::ErrorKind>;

    /// A disk whose writes follow a list of steps; after the last step, it accepts everything.
    #[derive(Default)]
    struct FailingDisk {
        text: Vec<u8>,
        steps: VecDeque<Step>,
    }

    impl Write for FailingDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.steps.pop_front() {
                Some(step) => step.map_err(io::Error::from)?.min(bytes.len()),
                None => bytes.len(),
            };
            self.text.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(lines: u64, _: &str) -> String {
        format!("{lines} missing\n")
    }

    /// Returns the text written for `lines`, and the number of reported errors.
    fn play(steps: &[Step], batches: &[&[&str]]) -> (String, usize) {
        let mut writer = LineWriter::new(FailingDisk {
            steps: steps.iter().copied().collect(),
            ..FailingDisk::default()
        });
        let mut errors = 0;
        for batch in batches {
            let lines: Vec<String> = batch.iter().map(|line| format!("{line}\n")).collect();
            errors += usize::from(writer.write(&lines, notice).is_err());
        }
        let text = String::from_utf8(writer.out().text.clone()).unwrap();
        (text, errors)
    }

    const FULL: Step = Err(io::ErrorKind::StorageFull);
    const BUSY: Step = Err(io::ErrorKind::WouldBlock);

    #[test]
    fn an_error_does_not_end_the_stream() {
        for error in [FULL, BUSY, Ok(0), Err(io::ErrorKind::BrokenPipe)] {
            let (text, errors) = play(&[error, error], &[&["one"], &["two", "three"], &["four"]]);
            assert_eq!((&*text, errors), ("3 missing\nfour\n", 1), "{error:?}");
        }
    }

    #[test]
    fn a_torn_line_is_finished_before_the_next_one() {
        let (text, errors) = play(
            &[Ok(5), FULL, FULL],
            &[&["one", "two", "three"], &["four"], &["five"]],
        );
        assert_eq!((&*text, errors), ("one\ntwo\n2 missing\nfive\n", 1));
    }

    #[test]
    fn a_torn_count_is_finished_too() {
        // Three bytes of the count are written before it fails; the next line is missing, too.
        let steps = [FULL, Ok(3), FULL];
        let (text, _) = play(&steps, &[&["one"], &["two"], &["three"]]);
        assert_eq!(text, "1 missing\n1 missing\nthree\n");
    }

    #[test]
    fn an_error_is_reported_once_until_writing_works_again() {
        let steps = [FULL, FULL, Ok(99), Ok(99), FULL];
        let (text, errors) = play(&steps, &[&["a"], &["b"], &["c"], &["d"], &["e"]]);
        assert_eq!((&*text, errors), ("2 missing\nc\n1 missing\ne\n", 2));
    }

    #[test]
    fn an_interrupted_write_is_repeated() {
        let (text, errors) = play(&[Err(io::ErrorKind::Interrupted)], &[&["one"]]);
        assert_eq!((&*text, errors), ("one\n", 0));
    }

    #[test]
    fn a_new_file_does_not_get_the_rest_of_a_line() {
        let mut writer = LineWriter::new(FailingDisk {
            steps: [Ok(2), FULL].into(),
            ..FailingDisk::default()
        });
        assert!(writer.write(&["one\n".to_owned()], notice).is_err());
        *writer.out() = FailingDisk::default();
        writer.restart(false);
        writer.write(&["two\n".to_owned()], notice).unwrap();
        assert_eq!(writer.out().text, b"1 missing\ntwo\n");
    }

    #[test]
    fn a_file_that_ends_in_a_torn_line_is_continued_on_a_new_line() {
        // The line feed can't be written at first.
        let mut writer = LineWriter::new(FailingDisk {
            text: b"torn".to_vec(),
            steps: [FULL].into(),
        });
        writer.restart(true);
        assert!(writer.write(&["one\n".to_owned()], notice).is_err());
        writer.write(&["two\n".to_owned()], notice).unwrap();
        assert_eq!(writer.out().text, b"torn\n1 missing\ntwo\n");
    }

    proptest! {
        #[test]
        fn every_line_is_written_whole_or_counted(
            steps in proptest::collection::vec(
                prop_oneof![(0usize..12).prop_map(Ok), Just(FULL), Just(BUSY)],
                0..20,
            ),
            batches in proptest::collection::vec(0usize..4, 1..20),
        ) {
            let mut number = 0;
            let batches: Vec<Vec<String>> = batches
                .into_iter()
                .map(|count| (0..count).map(|_| { number += 1; format!("line {number}") }).collect())
                .collect();
            let mut batches: Vec<Vec<&str>> = batches.iter().map(|batch| batch.iter().map(String::as_str).collect()).collect();
            // Add as many empty writes as there are steps. After them, writing works again.
            batches.extend((0..=steps.len()).map(|_| Vec::new()));
            let batches: Vec<&[&str]> = batches.iter().map(Vec::as_slice).collect();
            let (text, _) = play(&steps, &batches);
            let mut next = 1;
            for line in text.lines() {
                match line.strip_suffix(" missing") {
                    Some(count) => next += count.parse::<u64>().unwrap(),
                    None => {
                        prop_assert_eq!(line, format!("line {next}"));
                        next += 1;
                    }
                }
            }
            prop_assert_eq!(next, number + 1);
        }
    }
}
