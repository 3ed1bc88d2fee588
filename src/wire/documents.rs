//! How documents are described: one row each, from which the type, its reading and its writing
//! come.

/// Makes an enum of documents. First come those that are read and written by hand, then, after a
/// semicolon, a row for each that is a `<command>` with elements for its fields:
///
/// ```text
/// "WORD" | "ANOTHER WORD" if is_so => Variant { field: Type = Kind "element" },
/// ```
///
/// The first word is written, all are read, if `is_so` says of the root element that it is this
/// one. `Kind` is one of the types in `elements.rs`, which say how such a field is read and
/// written.
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

            /// Writes the `<command>` and its elements. Returns whether it has a row.
            fn write_command(&self, out: &mut Vec<u8>) -> bool {
                match self {
                    $(
                        $Documents::$Variant $( { $( $field, )* } )? => {
                            element("command", $word, out);
                            $( $( $Kind::write($field, $element, out); )* )?
                        }
                    )*
                    #[allow(unreachable_patterns, reason = "where every document has a row")]
                    _ => return false,
                }
                true
            }
        }
    };
}

pub(super) use documents;
