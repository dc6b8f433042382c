//! Checks the README and the guide: the two commands, no hidden lines, links to files that exist, and every chapter begins with when not
//! to do what it describes.

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

/// What a page links to, without anchors and addresses of the web.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files =
        targets.filter(|target| !target.starts_with("https://") && !target.starts_with('#'));
    files.filter_map(|target| target.split('#').next())
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

#[test]
fn blocks_and_links_are_found() {
    let page = "[a](b.md#c) <https://d>\n```sh\nls\n```\n[e](https://f) [g](#h) [i](j/k)\n";
    assert_eq!(links(page).collect::<Vec<_>>(), ["b.md", "j/k"]);
    assert_eq!(blocks(page), [("sh".to_owned(), "ls\n".to_owned())]);
}
