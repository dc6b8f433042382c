//! Checks the README and the guide: the two commands, no hidden lines, links to files that exist, every chapter begins with when not
//! to do what it describes, and names, metrics and examples exist.

use std::collections::BTreeSet;
use std::fs;

use super::{page, root};

/// The contents of the blocks of a page, each with its language.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_inside = !is_inside;
            if is_inside {
                blocks.push((language.to_owned(), String::new()));
            }
        } else if is_inside {
            let (_, text) = blocks.last_mut().unwrap();
            text.push_str(line);
            text.push('\n');
        }
    }
    blocks
}

/// The chapters, by the names of their files.
fn chapters() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("src/guide")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_suffix(".md")?.to_owned())).collect()
}

/// What a page links to, without addresses of the web.
fn targets(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("https://"))
}

/// The files that a page links to.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let files = targets(page).filter(|target| !target.starts_with('#'));
    files.filter_map(|target| target.split('#').next())
}

/// The anchors of the headings of a page, as GitHub and rustdoc make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let anchors = titles.map(|title| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    });
    anchors.collect()
}

#[test]
fn the_readme_has_the_two_commands() {
    let page = page("README.md");
    let (_, section) = page.split_once("\n## Two commands\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let commands: Vec<_> = blocks(section);
    let sh = |command: &str| ("sh".to_owned(), format!("{command}\n"));
    assert_eq!(commands, [sh("cargo run --release -p pgbell-cli -- demo"), sh("./test.sh")]);
}

#[test]
fn the_programs_of_the_readme_have_no_line_that_rustdoc_hides() {
    let blocks = blocks(&page("README.md"));
    let programs: Vec<_> =
        blocks.iter().filter(|(language, _)| language.starts_with("rust")).collect();
    assert!(!programs.is_empty());
    for (_, text) in programs {
        let hidden = text.lines().find(|line| *line == "#" || line.starts_with("# "));
        assert_eq!(hidden, None, "{text}");
    }
}

#[test]
fn every_link_of_the_readme_leads_to_a_file() {
    let page = page("README.md");
    let missing: Vec<_> = links(&page).filter(|link| !root().join(link).exists()).collect();
    assert!(links(&page).count() > 20);
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_anchor_of_the_front_pages_is_a_heading() {
    let mut count = 0;
    for front in ["README.md", "src/guide/mod.rs"] {
        let text = page(front);
        for (target, anchor) in targets(&text).filter_map(|target| target.split_once('#')) {
            let file = match target {
                "" => front.to_owned(),
                file if file.ends_with(".md") => file.to_owned(),
                chapter => format!("src/guide/{chapter}.md"),
            };
            assert!(anchors(&page(&file)).contains(anchor), "{front}: {target}#{anchor}");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn every_chapter_of_the_guide_is_in_the_contents_and_in_the_readme() {
    let (contents, readme) = (page("src/guide/mod.rs"), page("README.md"));
    for chapter in chapters() {
        assert!(contents.contains(&format!("pub mod {chapter} {{}}")), "{chapter}");
        // A chapter that needs a feature is no link, which would be broken without the feature.
        assert!(contents.contains(&format!("`{chapter}`")), "{chapter} is not in the contents");
        let file = format!("src/guide/{chapter}.md");
        assert!(links(&readme).any(|link| link == file), "{chapter} is not in the README");
    }
}

#[test]
fn every_chapter_begins_with_when_not_to_do_this() {
    for chapter in chapters() {
        let text = page(&format!("src/guide/{chapter}.md"));
        let mut lines = text.lines().filter(|line| !line.is_empty());
        assert!(lines.next().unwrap().starts_with("# "), "{chapter} has no title");
        let first = lines.next().unwrap();
        assert!(first.starts_with("*When not to "), "{chapter} begins with {first:?}");
    }
}

/// The README and all chapters, each with its text.
fn pages() -> Vec<(String, String)> {
    let files = chapters().into_iter().map(|chapter| format!("src/guide/{chapter}.md"));
    files.chain(["README.md".to_owned()]).map(|file| (file.clone(), page(&file))).collect()
}

/// The `code` of a page outside of its blocks.
fn spans(page: &str) -> Vec<&str> {
    let outside = page.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// The path at the beginning of a span, if it is that of a method, a field or a variant: `Type::name`.
fn item(span: &str) -> Option<&str> {
    let end = span.find(|char: char| !(char.is_alphanumeric() || "_:".contains(char)));
    let path = &span[..end.unwrap_or(span.len())];
    (path.starts_with(|char: char| char.is_uppercase()) && path.contains("::")).then_some(path)
}

/// Types of other libraries that the chapter on moving names.
const OF_OTHERS: [&str; 4] =
    ["PgListener::", "AsyncMessage::", "PgListenerConfig::", "StreamExt::"];

/// Where a link is possible, rustdoc checks the name. It is not for a feature that is off by default.
#[test]
fn every_name_of_the_guide_is_a_public_item() {
    let listed = page("docs/public-items.txt");
    let is_public = |path: &str| {
        // The list has a conversion as an implementation.
        if let Some(to) = path.strip_suffix("::from") {
            let end = format!("::{to}");
            return listed.lines().any(|line| {
                let line = line.trim_end_matches("  [feature]");
                line.starts_with("impl From<") && line.ends_with(&end)
            });
        }
        let path = format!("::{path}");
        let mut ends = listed.split(&path[..]).skip(1);
        ends.any(|rest| !rest.starts_with(|char: char| char.is_alphanumeric() || char == '_'))
    };
    let mut count = 0;
    for (file, text) in pages() {
        for path in spans(&text).into_iter().filter_map(item) {
            if !OF_OTHERS.iter().any(|other| path.starts_with(other)) {
                assert!(is_public(path), "{file}: {path}");
                count += 1;
            }
        }
    }
    assert!(count > 50, "{count}");
}

/// Alerts on a metric that does not exist would never fire.
#[test]
fn every_metric_of_the_guide_exists() {
    let sources =
        ["stats.rs", "metrics.rs", "facades.rs"].map(|file| format!("src/listener/{file}"));
    let sources = sources.iter().map(String::as_str).chain(["src/proto/supervisor/counters.rs"]);
    let sources: String = sources.map(page).collect();
    let chapter = page("src/guide/production.md");
    let words = chapter.split(|char: char| !(char.is_alphanumeric() || char == '_'));
    let metrics: BTreeSet<_> = words.filter(|word| word.starts_with("pgbell_")).collect();
    assert!(metrics.len() > 10, "{metrics:?}");
    for metric in metrics {
        assert!(sources.contains(&format!("\"{metric}\"")), "{metric}");
    }
}

/// The features that an example needs and that are not on by default.
fn features_of(example: &str) -> BTreeSet<String> {
    let manifest = page("Cargo.toml");
    let (_, entry) = manifest.split_once(&format!("name = \"{example}\"\n")).expect(example);
    let line = entry.lines().next().unwrap();
    let names = line.strip_prefix("required-features = ").expect(line);
    let names = names.split(['[', ']', '"', ',', ' ']).filter(|name| !name.is_empty());
    names.filter(|name| !["tokio", "proto"].contains(name)).map(str::to_owned).collect()
}

#[test]
fn every_command_that_runs_an_example_names_its_features() {
    let files = fs::read_dir(root().join("examples")).unwrap();
    let files = files.map(|file| format!("examples/{}", file.unwrap().file_name().display()));
    let examples = files.map(|file| (file.clone(), page(&file)));
    let mut count = 0;
    for (file, text) in pages().into_iter().chain(examples) {
        for command in text.split("cargo run --example ").skip(1) {
            let command = command.split('`').next().unwrap();
            let mut words = command.split(' ');
            let example = words.next().unwrap();
            let given = words.skip_while(|word| *word != "--features").nth(1).unwrap_or_default();
            let given = given.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
            let given: BTreeSet<_> = given.collect();
            assert!(features_of(example).is_subset(&given), "{file}: {command}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_example_that_a_page_names_exists() {
    let mut count = 0;
    for (file, text) in pages() {
        for rest in text.split("xample `").skip(1).chain(text.split("xamples `").skip(1)) {
            let Some((name, _)) = rest.split_once('`') else { continue };
            if !name.contains(|char: char| !(char.is_alphanumeric() || char == '_')) {
                assert!(root().join(format!("examples/{name}.rs")).exists(), "{file}: {name}");
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn blocks_and_links_are_found() {
    let page = "`a::B` and `C::d(e)` and `F`\n```\n`G::h`\n```\n`I::J`";
    assert_eq!(spans(page).into_iter().filter_map(item).collect::<Vec<_>>(), ["C::d", "I::J"]);
    let page = "[a](b.md#c) <https://d>\n```sh\nls\n```\n[e](https://f) [g](#h) [i](j/k)\n";
    assert_eq!(links(page).collect::<Vec<_>>(), ["b.md", "j/k"]);
    assert_eq!(blocks(page), [("sh".to_owned(), "ls\n".to_owned())]);
}
