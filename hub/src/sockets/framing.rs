//! Finds the limits of messages in the incoming bytes of a connection (RFC 6455, section 5.2).
//!
//! Pure. The WebSocket library reports complete messages only. The frames' headers show whether one
//! has begun. This module validates nothing: the library does.

/// The bound of a message's frames; more are a flood of empty fragments.
pub(super) const FRAMES_A_MESSAGE_MAX: u32 = 1_024;

/// The frames of one direction.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// The current header: at most 2 bytes, 8 of length, 4 of mask.
    header: [u8; 14],
    header_len: usize,
    /// The missing bytes of the current frame's payload.
    payload_left: u64,
    in_payload: bool,
    /// The frames of the current data message; 0 between messages.
    frames: u32,
    /// The payload of those frames, as their headers announce it, in bytes.
    announced: u64,
    /// The current frame ends a message, or is a control frame.
    last: bool,
    control: bool,
}

impl Framing {
    /// Reads the next bytes. True if a data message ended in them: its time limit is over, and that
    /// of the next one begins.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.in_payload {
                let taken = bytes
                    .len()
                    .min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= taken as u64;
                bytes = &bytes[taken..];
            } else {
                self.header[self.header_len] = bytes[0];
                self.header_len += 1;
                bytes = &bytes[1..];
                if self.header_len < self.header_size() {
                    continue;
                }
                self.begin_payload();
            }
            if self.payload_left == 0 {
                self.in_payload = false;
                self.header_len = 0;
                if !self.control && self.last {
                    (self.frames, self.announced) = (0, 0);
                    ended = true;
                }
            }
        }
        ended
    }

    /// Whether a data message, or any frame, has begun and is incomplete.
    pub(super) fn is_begun(&self) -> bool {
        self.frames > 0 || self.in_payload || self.header_len > 0
    }

    /// The smallest possible size of the current data message, by its headers so far, in bytes.
    pub(super) fn announced(&self) -> u64 {
        self.announced
    }

    /// Whether the current message has more than [`FRAMES_A_MESSAGE_MAX`] frames.
    pub(super) fn is_flood(&self) -> bool {
        self.frames > FRAMES_A_MESSAGE_MAX
    }

    fn header_size(&self) -> usize {
        if self.header_len < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn begin_payload(&mut self) {
        self.payload_left = match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        self.in_payload = true;
        self.last = self.header[0] & 0x80 != 0;
        self.control = self.header[0] & 0x08 != 0;
        if !self.control {
            self.frames = self.frames.saturating_add(1);
            self.announced = self.announced.saturating_add(self.payload_left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(0x80 | u8::try_from(payload).unwrap()),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(vec![0; payload]);
        frame
    }

    #[test]
    fn a_message_has_begun_from_its_first_byte_to_its_last() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = frame(0x81, size);
            let mut framing = Framing::default();
            assert!(!framing.is_begun());
            for (index, byte) in bytes.iter().enumerate() {
                assert_eq!(framing.read(&[*byte]), index + 1 == bytes.len());
                assert_eq!(
                    framing.is_begun(),
                    index + 1 < bytes.len(),
                    "{size} {index}"
                );
            }
        }
    }

    #[test]
    fn a_control_frame_between_fragments_ends_nothing() {
        let mut framing = Framing::default();
        framing.read(&frame(0x01, 3));
        assert!(framing.is_begun());
        assert!(!framing.read(&frame(0x8a, 0)), "a pong");
        assert!(framing.is_begun());
        assert!(framing.read(&frame(0x80, 3)));
        assert!(!framing.is_begun());
        framing.read(&frame(0x89, 2));
        assert!(!framing.is_begun(), "a ping alone");
    }

    #[test]
    fn a_message_announces_its_size_in_its_headers_over_all_its_fragments() {
        let mut framing = Framing::default();
        framing.read(&frame(0x81, 70_000)[..14]);
        assert_eq!(framing.announced(), 70_000);
        framing.read(&vec![0; 70_000]);
        assert_eq!(framing.announced(), 0, "it is complete");
        framing.read(&frame(0x01, 300));
        framing.read(&frame(0x89, 100));
        framing.read(&frame(0x80, 200)[..8]);
        assert_eq!(framing.announced(), 500, "without the ping");
    }
}
