//! The paths in one Rust file: its `use` trees, and every path of two or more segments in its code,
//! with lines. Test code is omitted, because a test may import anything.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Ident, ImplItem, Item, Macro, Meta, Path, Token, TraitItem, UseTree, Visibility,
};

/// A path in the code of a module.
#[derive(Clone, Debug)]
pub(super) struct Mention {
    /// Its segments, such as `crate`, `cli`, `values`.
    pub(super) words: Vec<String>,
    pub(super) line: usize,
}

/// An import: its path, and its local name.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// Its local name; `None` for a glob (`*`) or `_`.
    pub(super) name: Option<String>,
    pub(super) is_glob: bool,
    pub(super) mention: Mention,
}

/// Paths in a module's code.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    pub(super) imports: Vec<Import>,
    pub(super) paths: Vec<Mention>,
}

impl Mentions {
    /// Adds the paths of an item (not those of a nested module).
    pub(super) fn add(&mut self, item: &Item) {
        self.visit_item(item);
    }

    /// Every path, imported or written out.
    pub(super) fn all(&self) -> impl Iterator<Item = &Mention> {
        let imports = self.imports.iter().map(|import| &import.mention);
        imports.chain(&self.paths)
    }

    fn add_use(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        let mut import = |name: Option<&Ident>, is_glob, at: Span, last: Option<&Ident>| {
            let mut words = before.clone();
            // `use a::{self}` names `a`.
            words.extend(
                last.map(word)
                    .filter(|last| last != "self" || before.is_empty()),
            );
            let name = match name.map(word) {
                Some(name) if name == "self" => words.last().cloned(),
                Some(name) if name == "_" => None,
                name => name,
            };
            self.imports.push(Import {
                name,
                is_glob,
                mention: Mention {
                    words,
                    line: at.start().line,
                },
            });
        };
        match tree {
            UseTree::Path(path) => {
                before.push(word(&path.ident));
                self.add_use(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) => import(
                Some(&name.ident),
                false,
                name.ident.span(),
                Some(&name.ident),
            ),
            UseTree::Rename(name) => import(
                Some(&name.rename),
                false,
                name.ident.span(),
                Some(&name.ident),
            ),
            UseTree::Glob(glob) => import(None, true, glob.star_token.spans[0], None),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, before);
                }
            }
        }
    }

    /// Paths among the tokens of a macro, whose syntax is unknown.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut words: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(&mut words, line);
                    }
                    if words.is_empty() {
                        line = ident.span().start().line;
                    }
                    words.push(word(&ident));
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end_of_path(&mut words, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.end_of_path(&mut words, line);
    }

    fn end_of_path(&mut self, words: &mut Vec<String>, line: usize) {
        let words = std::mem::take(words);
        if words.len() > 1 {
            self.paths.push(Mention { words, line });
        }
    }
}

impl Visit<'_> for Mentions {
    fn visit_item(&mut self, item: &Item) {
        match item {
            // Modules are read separately.
            Item::Mod(_) => {}
            Item::Use(import) if is_test(&import.attrs) => {}
            Item::Use(import) => self.add_use(&import.tree, &mut Vec::new()),
            item if is_test(attributes(item)) => {}
            item => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &TraitItem) {
        if !matches!(item, TraitItem::Fn(function) if is_test(&function.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &Path) {
        if let Some(first) = path.segments.first()
            && path.segments.len() > 1
        {
            self.paths.push(Mention {
                words: path.segments.iter().map(|part| word(&part.ident)).collect(),
                line: first.ident.span().start().line,
            });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &Macro) {
        self.visit_path(&called.path);
        self.add_tokens(called.tokens.clone());
    }

    // `pub(in a::b)` imports nothing, nor do attributes such as `cfg` and `doc`.
    fn visit_visibility(&mut self, _: &Visibility) {}
    fn visit_attribute(&mut self, _: &Attribute) {}
}

/// An identifier, `r#type` as `type`.
pub(super) fn word(ident: &Ident) -> String {
    let word = ident.to_string();
    word.strip_prefix("r#").map(str::to_owned).unwrap_or(word)
}

/// Whether an item is compiled for tests only (`cfg(test)`, `cfg(any(test, feature = "fixtures"))`).
pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => mentions_test(list.tokens.clone()),
        _ => false,
    })
}

/// Whether a condition requires `test`, also in `any` and `all`, but not in `not`.
fn mentions_test(condition: TokenStream) -> bool {
    let conditions = Punctuated::<Meta, Token![,]>::parse_terminated;
    let Ok(conditions) = conditions.parse2(condition) else {
        return false;
    };
    conditions.iter().any(|condition| match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if !list.path.is_ident("not") => mentions_test(list.tokens.clone()),
        _ => false,
    })
}

/// The attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The names that an item defines in its module.
pub(super) fn names(item: &Item) -> Vec<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => match &item.ident {
            Some(ident) => ident,
            None => return Vec::new(),
        },
        Item::ForeignMod(block) => {
            let named = block.items.iter().filter_map(|item| match item {
                syn::ForeignItem::Fn(item) => Some(word(&item.sig.ident)),
                syn::ForeignItem::Static(item) => Some(word(&item.ident)),
                syn::ForeignItem::Type(item) => Some(word(&item.ident)),
                _ => None,
            });
            return named.collect();
        }
        _ => return Vec::new(),
    };
    vec![word(ident)]
}
