//! Owns the way from the four sources to checked settings. Never guesses: a name that is no
//! setting stops the start, whatever source it came from.

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::path::{Path, PathBuf};

use super::table::{PREFIX, Setting, settings};
use super::{Settings, SettingsError, check};

/// Where settings come from; each source over the one before.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// What this program prefers to the defaults of the table, `(key, value)`.
    pub defaults: Vec<(&'static str, String)>,
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those without the prefix are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags, `(key, value)`.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The sources of a program: the environment of this process and the flags given to it.
    pub fn of_process(flags: &super::Flags) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self { defaults: Vec::new(), file: flags.file.clone(), environment, flags: flags.given.clone() }
    }
}

/// Reads and checks the settings.
///
/// # Errors
/// One line that names the first wrong setting, where it was given, and what was expected.
pub fn load(sources: &Sources) -> Result<Settings, SettingsError> {
    let mut layered = Figment::from(Layer::new(Origin::Default, table_defaults())?)
        .merge(Layer::new(Origin::Default, texts(Origin::Default, &sources.defaults)?)?);
    if let Some(path) = &sources.file {
        layered = layered.merge(Layer::new(Origin::File, file(path)?)?);
    }
    let layered = layered
        .merge(Layer::new(Origin::Environment, texts(Origin::Environment, &environment(&sources.environment)?)?)?)
        .merge(Layer::new(Origin::Flag, texts(Origin::Flag, &sources.flags)?)?);
    for setting in settings() {
        let Ok(value) = layered.find_value(setting.key) else { continue };
        let origin = layered.get_metadata(value.tag()).map_or("", |m| &m.name);
        check::value(setting, &value)
            .map_err(|must| SettingsError::new(format!("{} {must}", Origin::of(origin).name(setting.key))))?;
    }
    let read: Settings = layered.extract().map_err(|e| SettingsError::new(format!("settings: {e}")))?;
    check::together(&read)?;
    Ok(read)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

impl Origin {
    const ALL: [Self; 4] = [Self::Default, Self::File, Self::Environment, Self::Flag];

    fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "settings file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }

    fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|o| o.as_str() == name).unwrap_or(Self::Default)
    }

    /// The setting's name as the person wrote it there.
    fn name(self, key: &str) -> String {
        match self {
            Self::Default => format!("{key} (default)"),
            Self::File => format!("{key} (settings file)"),
            Self::Environment => format!("{PREFIX}{}", key.to_ascii_uppercase()),
            Self::Flag => format!("--{}", key.replace('_', "-")),
        }
    }
}

/// One source, its secrets read from the files that it names.
struct Layer {
    origin: Origin,
    values: Dict,
}

impl Layer {
    fn new(origin: Origin, mut values: Dict) -> Result<Self, SettingsError> {
        for setting in settings().iter().filter(|s| s.is_secret()) {
            let Some(path) = values.remove(&format!("{}_file", setting.key)) else { continue };
            let named = origin.name(&format!("{}_file", setting.key));
            if values.contains_key(setting.key) {
                let other = origin.name(setting.key);
                return Err(SettingsError::new(format!("{named} and {other} are both given: give one of them")));
            }
            let path = path.as_str().ok_or_else(|| SettingsError::new(format!("{named} must be a path")))?;
            let text = std::fs::read_to_string(path)
                .map_err(|e| SettingsError::new(format!("{named} must name a readable file: {path}: {e}")))?;
            values.insert(setting.key.into(), Value::from(text.trim_end_matches(['\r', '\n'])));
        }
        Ok(Self { origin, values })
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.as_str())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn table_defaults() -> Dict {
    let with_default = |s: &Setting| s.default.map(|text| (s.key.to_owned(), check::read(s.kind, text)));
    settings().iter().filter_map(with_default).collect()
}

fn file(path: &Path) -> Result<Dict, SettingsError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| SettingsError::new(format!("--config must name a readable file: {shown}: {e}")))?;
    // The parser's own text shows the line, which may hold a secret: only its place is told.
    let values: Dict = Toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        SettingsError::new(format!("--config must name a TOML file: {shown}, line {line}: {}", e.message()))
    })?;
    for key in values.keys() {
        known(key).ok_or_else(|| unknown(&format!("{key} in {shown}"), key))?;
    }
    Ok(values)
}

/// The variables that are ours, as `(key, value)`. One that is empty counts as not given, since
/// compose files and unit files hand them on so.
fn environment(variables: &[(String, String)]) -> Result<Vec<(String, String)>, SettingsError> {
    let mut given = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        // The tests' own, and flags in another form: `--config`, and `--token` of `send`.
        if rest.starts_with("TEST_") || rest == "CONFIG" || rest == "TOKEN" {
            continue;
        }
        let key = rest.to_ascii_lowercase();
        if known(&key).is_none() || rest != rest.to_ascii_uppercase() {
            return Err(unknown(name, &key));
        }
        if !value.is_empty() {
            given.push((key, value.clone()));
        }
    }
    Ok(given)
}

fn texts(origin: Origin, given: &[(impl AsRef<str>, String)]) -> Result<Dict, SettingsError> {
    let mut values = Dict::new();
    for (key, text) in given {
        let key = key.as_ref();
        let setting = known(key).ok_or_else(|| unknown(&origin.name(key), key))?;
        let value = if key == setting.key { check::read(setting.kind, text) } else { Value::from(text.as_str()) };
        values.insert(key.into(), value);
    }
    Ok(values)
}

/// The setting that a key gives, by itself or by the file that holds it.
fn known(key: &str) -> Option<&'static Setting> {
    settings().iter().find(|s| s.key == key || (s.is_secret() && key.strip_suffix("_file") == Some(s.key)))
}

fn unknown(shown: &str, key: &str) -> SettingsError {
    let near = settings().iter().map(|s| (distance(s.key, key), s.key)).min().filter(|(d, _)| *d <= 3);
    let hint = near.map_or_else(|| "`--help` lists all".into(), |(_, near)| format!("did you mean {near}?"));
    SettingsError::new(format!("{shown} is no setting: {hint}"))
}

/// Levenshtein distance, bytewise.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let best = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}
