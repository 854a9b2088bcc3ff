//! The short names of media's types, and the registered ones.

/// Images.
const IMAGES: [(&str, &str); 4] =
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("gif", "image/gif"), ("webp", "image/webp")];
/// Documents.
const DOCUMENTS: [(&str, &str); 9] = [
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
];
/// Films.
const VIDEOS: [(&str, &str); 8] = [
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("flv", "video/x-flv"),
    ("mpeg", "video/mpeg"),
    ("wmv", "video/x-ms-wmv"),
    ("three_gp", "video/3gpp"),
];
/// Sounds, under the names that chat completions have for them too.
const SOUNDS: [(&str, &str); 8] = [
    ("mp3", "audio/mp3"),
    ("wav", "audio/wav"),
    ("opus", "audio/opus"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("webm", "audio/webm"),
    ("m4a", "audio/m4a"),
];
/// Other names of the same types.
const ALIASES: [(&str, &str); 4] = [
    ("image/jpg", "image/jpeg"),
    ("audio/mpeg", "audio/mp3"),
    ("audio/x-wav", "audio/wav"),
    ("audio/mp4", "audio/m4a"),
];

/// What a block of media is called, and what it is called in the neutral form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Document,
    Video,
    Audio,
}

impl Kind {
    /// Its name in the neutral form.
    pub(super) const fn neutral(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Document => "file",
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    /// The kind of that neutral name.
    pub(super) fn of(neutral: &str) -> Option<Self> {
        let all = [Self::Image, Self::Document, Self::Video, Self::Audio];
        all.into_iter().find(|kind| kind.neutral() == neutral)
    }

    /// The name of its block.
    pub(super) const fn block(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Document => "document",
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }

    const fn table(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Image => &IMAGES,
            Self::Document => &DOCUMENTS,
            Self::Video => &VIDEOS,
            Self::Audio => &SOUNDS,
        }
    }

    /// The registered type of a short name.
    pub(super) fn media_type(self, format: &str) -> Option<&'static str> {
        self.table().iter().find(|(short, _)| *short == format).map(|(_, long)| *long)
    }

    /// The short name of a registered type.
    pub(super) fn format(self, media_type: &str) -> Option<&'static str> {
        // Parameters such as a charset say nothing here.
        let plain = media_type.split(';').next().unwrap_or_default().trim();
        let alias = ALIASES.iter().find(|(other, _)| *other == plain);
        let usual = alias.map_or(plain, |(_, usual)| usual);
        self.table().iter().find(|(_, long)| *long == usual).map(|(short, _)| *short)
    }
}
