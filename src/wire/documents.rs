//! A macro that describes documents, one row each, and generates their type, reader and writer.

/// Generates an enum of documents. The documents that are read and written by hand come first.
/// After a semicolon, there is a row for each document that is a `<command>` with elements for its
/// fields:
///
/// ```text
/// "WORD" | "ANOTHER WORD" if is_so => Variant { field: Type = Kind "element" },
/// ```
///
/// The writer uses the first word, and the reader accepts all of them. `is_so`, if given, must be
/// true for the root element. `Kind` is one of the types in `elements.rs`, which read and write
/// such a field.
macro_rules! documents {
    (
        $(#[$about:meta])*
        pub enum $Documents:ident<'a> {
            $(
                $(#[$by_hand_about:meta])*
                $ByHand:ident
                $( ( $content:ty ) )?
                $( { $( $(#[$by_hand_field_about:meta])* $by_hand_field:ident: $by_hand_type:ty, )* } )?,
            )*
            ;
            $(
                $(#[$row_about:meta])*
                $word:literal $( | $another:literal )* $( if $is_so:ident )? => $Variant:ident
                $( { $( $(#[$field_about:meta])* $field:ident: $type:ty = $Kind:ident $element:literal, )* } )?,
            )*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $Documents<'a> {
            $(
                $(#[$by_hand_about])*
                $ByHand
                $( ( $content ) )?
                $( { $( $(#[$by_hand_field_about])* $by_hand_field: $by_hand_type, )* } )?,
            )*
            $(
                $(#[$row_about])*
                $Variant $( { $( $(#[$field_about])* $field: $type, )* } )?,
            )*
        }

        impl<'a> $Documents<'a> {
            /// Reads the document whose `<command>` is `name`.
            fn read_command(root: Node<'_, 'a>, name: &str) -> Result<$Documents<'a>, DocError> {
                match name {
                    $(
                        $word $( | $another )* $( if $is_so(root) )? => Ok($Documents::$Variant $( {
                            $( $field: $Kind::read(root, $element)?, )*
                        } )?),
                    )*
                    other => Err(DocError::UnknownCommand(other.to_owned())),
                }
            }

            /// Writes the `<command>` and its elements. Returns whether the document has a row.
            fn write_command(&self, out: &mut Vec<u8>) -> bool {
                match self {
                    $(
                        $Documents::$Variant $( { $( $field, )* } )? => {
                            element("command", $word, out);
                            $( $( $Kind::write($field, $element, out); )* )?
                        }
                    )*
                    #[allow(unreachable_patterns, reason = "if every document has a row")]
                    _ => return false,
                }
                true
            }
        }
    };
}

pub(super) use documents;
