//! Where one answer ends and the next begins in what came from the server (RESP, versions 2 and 3).

use crate::backend::express::Garbled;

/// No script of ours answers with lists in lists in lists in lists.
const DEEPEST: usize = 8;
/// Nor with that much. What claims to be longer is not an answer to us.
const LONGEST: usize = 1 << 20;

/// The length of the first answer in `bytes`; `None` if it has not come whole.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Garbled> {
    end(bytes, 0, DEEPEST)
}

/// Behind the answer that begins at `at`.
fn end(bytes: &[u8], at: usize, deep: usize) -> Result<Option<usize>, Garbled> {
    let Some(kind) = bytes.get(at) else { return Ok(None) };
    if deep == 0 {
        return Err(Garbled);
    }
    let Some(line) = line_end(bytes, at + 1) else {
        return if bytes.len() - at > LONGEST {
            Err(Garbled)
        } else {
            Ok(None)
        };
    };
    let behind = line + 2;
    let parts = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(Some(behind)),
        b'$' | b'!' | b'=' => {
            return Ok(match size(bytes, at + 1, line)? {
                None => Some(behind),
                Some(size) => Some(behind + size + 2).filter(|end| *end <= bytes.len()),
            });
        }
        b'*' | b'~' | b'>' => size(bytes, at + 1, line)?.unwrap_or(0),
        b'%' => size(bytes, at + 1, line)?.unwrap_or(0) * 2,
        _ => return Err(Garbled),
    };
    let mut at = behind;
    for _ in 0..parts {
        match end(bytes, at, deep - 1)? {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Where the line that begins at `from` ends, before its CR LF.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(2)
        .position(|pair| pair == b"\r\n")
        .map(|found| from + found)
}

/// The number that stands there; `None` for -1, which stands for nothing.
fn size(bytes: &[u8], from: usize, to: usize) -> Result<Option<usize>, Garbled> {
    let text = bytes.get(from..to).and_then(|digits| std::str::from_utf8(digits).ok());
    let number: i64 = text.and_then(|text| text.parse().ok()).ok_or(Garbled)?;
    match usize::try_from(number) {
        Ok(size) if size > LONGEST => Err(Garbled),
        Ok(size) => Ok(Some(size)),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_ends_where_it_ends_and_not_before() {
        let answers: [&[u8]; 9] = [
            b"+OK\r\n",
            b"-NOSCRIPT no\r\n",
            b":1\r\n",
            b"$-1\r\n",
            b"_\r\n",
            b"$3\r\na\rb\r\n",
            b"*2\r\n$1\r\n7\r\n*2\r\n$4\r\nheld\r\n$1\r\n-\r\n",
            b"%1\r\n+id\r\n:9\r\n",
            b"*0\r\n",
        ];
        for answer in answers {
            for cut in 0..answer.len() {
                assert_eq!(length(&answer[..cut]), Ok(None), "{:?}", &answer[..cut]);
            }
            let followed = [answer, b"+more\r\n"].concat();
            assert_eq!(length(&followed), Ok(Some(answer.len())));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for garbage in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$x\r\n",
            b"*99999999999\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            assert_eq!(length(garbage), Err(Garbled));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = length(&bytes);
        }

        #[test]
        fn nor_do_bytes_that_look_like_answers(text in "[*$%+:>\r\n0-9-]{0,40}") {
            if let Ok(Some(end)) = length(text.as_bytes()) {
                prop_assert!(end <= text.len());
            }
        }
    }
}
