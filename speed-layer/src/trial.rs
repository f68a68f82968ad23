//! Checks invariants of the splitters on arbitrary bytes. It is for property tests and fuzzing, not
//! for programs.

use crate::source::files::open::Content;
use crate::source::files::split::{Piece, Splitter, avro, csv, json};

/// The format in which a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileTrial {
    /// As JSON values.
    Json,
    /// As CSV rows.
    Csv,
    /// As an Avro container.
    Avro,
}

/// The limit on the length of a record in tried files. It is small, so that records over the limit
/// occur.
const FILE_LIMIT: usize = 512;

/// Tries bytes as a file, which may be compressed. Returns the number of pieces that it is split
/// into. An error says which of these invariants does not hold:
///
/// - The pieces come to an end.
/// - They stand in the file in order.
/// - Each piece holds the bytes that stand at its place.
/// - Between them stands only what the format allows.
/// - They are the same in whichever portions the file is read.
pub fn try_file(trial: FileTrial, bytes: &[u8]) -> Result<usize, String> {
    let open = |content: Content| -> Result<Option<Box<dyn Splitter>>, String> {
        Ok(Some(match trial {
            FileTrial::Json => Box::new(json::JsonValues::new(content, FILE_LIMIT)),
            FileTrial::Csv => Box::new(csv::Rows::new(content, b',', FILE_LIMIT, None)),
            // Without a header it is not a container, and is set aside.
            FileTrial::Avro => match avro::Container::open(content, FILE_LIMIT) {
                Ok(container) => Box::new(container),
                Err(_) => return Ok(None),
            },
        }))
    };
    let over = || Content::over(std::io::Cursor::new(bytes.to_vec())).map_err(|error| error.to_string());
    let mut whole = Vec::new();
    let mut content = over()?;
    loop {
        let buffer = content.fill().map_err(|error| error.to_string())?;
        let length = buffer.len();
        // A compression bomb is not decompressed to its end.
        if length == 0 || whole.len() > bytes.len() + (4 << 20) {
            break;
        }
        whole.extend_from_slice(buffer);
        content.consume(length);
    }
    if content.broken().is_some() || whole.len() > bytes.len() + (4 << 20) {
        whole = bytes.to_vec();
    }
    let Some(mut at_once) = open(Content::from_bytes(whole.clone()))? else { return Ok(0) };
    let Some(mut in_sevens) = open(Content::in_pieces(whole.clone(), 7))? else { return Ok(0) };
    let (mut piece, mut other) = (Vec::new(), Vec::new());
    let (mut pieces, mut end) = (0, 0);
    loop {
        let cut = at_once.next(&mut piece).map_err(|error| error.to_string())?;
        let same = in_sevens.next(&mut other).map_err(|error| error.to_string())?;
        if cut == Piece::End && same == Piece::End {
            break;
        }
        let span = at_once.span();
        if (&cut, &piece, &span) != (&same, &other, &in_sevens.span()) {
            return Err(format!("{cut:?} {span:?} and {same:?} {:?} of the same bytes", in_sevens.span()));
        }
        let (from, to) = (span.start as usize, span.end as usize);
        if trial != FileTrial::Avro {
            if from < end || to < from || to > whole.len() {
                return Err(format!("{span:?} after {end}, of {} bytes", whole.len()));
            }
            if !is_between(trial, &whole[end..from]) {
                return Err(format!("lost: {:?}", &whole[end..from]));
            }
            if to - from <= FILE_LIMIT && whole[from..to] != piece[..] {
                return Err(format!("{piece:?} is not what stands at {span:?}"));
            }
            end = to;
        }
        pieces += 1;
        if pieces > 2 * whole.len() + 4096 {
            return Err("it does not end".to_owned());
        }
    }
    if trial != FileTrial::Avro && !is_between(trial, &whole[end..]) {
        return Err(format!("lost at the end: {:?}", &whole[end..]));
    }
    Ok(pieces)
}

/// Whether bytes may stand between two pieces.
fn is_between(trial: FileTrial, bytes: &[u8]) -> bool {
    match trial {
        FileTrial::Json => json::may_part(bytes),
        FileTrial::Csv => csv::may_part(bytes),
        FileTrial::Avro => true,
    }
}
