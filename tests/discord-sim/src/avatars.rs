//! Pictures, as Discord's image host has them: a face for every hash, made of nothing but it.

use std::io::Write;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use http::{HeaderValue, StatusCode, header};

use crate::snowflake::{Id, scramble};

/// Pixels of a side.
const SIZE: u32 = 128;
/// Cells of a side of the pattern.
const CELLS: u32 = 5;
/// Pixels left free around the pattern.
const MARGIN: u32 = 14;

/// Answers `/avatars/{user}/{hash}.png` and `/embed/avatars/{index}.png`; anything else is 404.
pub(crate) fn answer(path: &str) -> Response {
    let Some(seed) = seed_of(path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match picture(seed) {
        Ok(png) => {
            let mut response = Response::new(Body::from(png));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("public, max-age=31536000"),
            );
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn seed_of(path: &str) -> Option<u64> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match segments.as_slice() {
        ["avatars", user, file] => {
            user.parse::<Id>().ok()?;
            let hash = file.strip_suffix(".png")?;
            let digits = hash.strip_prefix("a_").unwrap_or(hash);
            if digits.len() != 32 {
                return None;
            }
            u64::from_str_radix(digits.get(..16)?, 16).ok()
        }
        ["embed", "avatars", file] => {
            let index: u64 = file.strip_suffix(".png")?.parse().ok()?;
            (index < 6).then(|| scramble(&[index], 3))
        }
        _ => None,
    }
}

/// A soft gradient with a mirrored pattern on it.
fn picture(seed: u64) -> std::io::Result<Vec<u8>> {
    let hue = u16::try_from(scramble(&[seed], 1) % 360).unwrap_or(0);
    let top = colour(hue, 58, 66);
    let bottom = colour((hue + 40) % 360, 62, 46);
    let ink = colour((hue + 15) % 360, 40, 95);
    let cells = scramble(&[seed], 2);
    let mut rows = Vec::new();
    for y in 0..SIZE {
        // Every row begins with its filter: none.
        rows.push(0);
        for x in 0..SIZE {
            let pixel = if is_inked(cells, x, y) {
                ink
            } else {
                blend(top, bottom, x + y, 2 * SIZE)
            };
            rows.extend_from_slice(&pixel);
        }
    }
    png(&rows)
}

/// Whether the pattern covers a pixel: the left half is mirrored to the right.
fn is_inked(cells: u64, x: u32, y: u32) -> bool {
    let side = SIZE - 2 * MARGIN;
    let (Some(x), Some(y)) = (x.checked_sub(MARGIN), y.checked_sub(MARGIN)) else {
        return false;
    };
    if x >= side || y >= side {
        return false;
    }
    let (column, row) = (x * CELLS / side, y * CELLS / side);
    let mirrored = column.min(CELLS - 1 - column);
    cells >> (row * CELLS.div_ceil(2) + mirrored) & 1 == 1
}

fn blend(from: [u8; 3], to: [u8; 3], at: u32, whole: u32) -> [u8; 3] {
    let mix = |from: u8, to: u8| {
        let sum = u32::from(from) * (whole - at.min(whole)) + u32::from(to) * at.min(whole);
        u8::try_from(sum / whole).unwrap_or(u8::MAX)
    };
    [
        mix(from[0], to[0]),
        mix(from[1], to[1]),
        mix(from[2], to[2]),
    ]
}

/// HSL (degrees, percent, percent) to RGB.
fn colour(hue: u16, saturation: i32, lightness: i32) -> [u8; 3] {
    let chroma = (100 - (2 * lightness - 100).abs()) * saturation / 100;
    let sector = i32::from(hue) % 120 - 60;
    let second = chroma * (60 - sector.abs()) / 60;
    let (red, green, blue) = match hue / 60 {
        0 => (chroma, second, 0),
        1 => (second, chroma, 0),
        2 => (0, chroma, second),
        3 => (0, second, chroma),
        4 => (second, 0, chroma),
        _ => (chroma, 0, second),
    };
    let lift = lightness - chroma / 2;
    [red, green, blue]
        .map(|part| u8::try_from(((part + lift) * 255 / 100).clamp(0, 255)).unwrap_or(0))
}

/// A PNG of 8-bit RGB rows (RFC 2083).
fn png(rows: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = Vec::new();
    header.extend_from_slice(&SIZE.to_be_bytes());
    header.extend_from_slice(&SIZE.to_be_bytes());
    // 8 bits, RGB, deflate, no filter choice, not interlaced.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(rows)?;
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &packed.finish()?);
    chunk(&mut file, b"IEND", &[]);
    Ok(file)
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let mut sum = Crc::new();
    sum.update(kind);
    sum.update(data);
    file.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend_from_slice(kind);
    file.extend_from_slice(data);
    file.extend_from_slice(&sum.sum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_picture_paths_have_a_picture() {
        let hash = "0123456789abcdef0123456789abcdef";
        for good in [
            format!("/avatars/1/{hash}.png"),
            "/embed/avatars/5.png".to_owned(),
        ] {
            assert!(seed_of(&good).is_some(), "{good}");
        }
        for bad in [
            "/avatars/1/x.png",
            "/avatars/x/0.png",
            "/embed/avatars/6.png",
            "/",
            "/avatars/1/é.png",
        ] {
            assert_eq!(seed_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_picture_is_a_small_png_and_differs_by_seed() {
        let (one, two) = (picture(1).unwrap(), picture(2).unwrap());
        assert!(one.starts_with(b"\x89PNG\r\n\x1a\n"));
        assert!(one.len() < 60_000, "{} bytes", one.len());
        assert_ne!(one, two);
    }
}
