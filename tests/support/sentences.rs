//! The programs' sentences that tests wait for. A copy editor changes them here as well as in the
//! program, and nowhere else; everything else that tests check is a code, an event or a document.
#![allow(dead_code, unreachable_pub)]

pub const ANSWER_YES_OR_NO: &str = "answer yes or no";
pub const ARE_UNREACHABLE_UNTIL: &str = "are unreachable: until";
pub const ARE_UNREACHABLE_UNTIL_THEY_ARE_BACK: &str = "are unreachable: until they are back";
pub const A_DOCUMENT_IS_ONE_LINE: &str = "a document is one line";
pub const A_RESTART_IS_NEEDED_FOR_THE_NEW_WORKERS: &str =
    "a restart is needed for the new --workers;";
pub const A_TEST_OF_THE_CONNECTION: &str = "a test of the connection";
pub const BOB_IS_ONLINE: &str = "bob is online";
pub const CANT_BE_READ: &str = "can't be read";
pub const CANT_READ_THE_JOURNAL: &str = "can't read the journal";
pub const CANT_WRITE_TO_STANDARD_OUTPUT: &str = "can't write to standard output";
pub const CANT_WRITE_TO_THE_EVENT_FILE_DEVFULL: &str = "can't write to the event file /dev/full";
pub const CANT_WRITE_TO_THE_EVENT_FILE_EVENTS_FILE: &str =
    "can't write to the event file events (File too large";
pub const CERTIFICATE_HAS_CHANGED: &str = "CERTIFICATE HAS CHANGED";
pub const CHOOSE_A_PASSWORD_FOR_ALICE: &str = "choose a password for alice:";
pub const CLOSED_THE_CONNECTION: &str = "closed the connection";
pub const CONNECTED_ON_PORT: &str = "connected on port";
pub const CONNECTS_ALL_SERVERS_OF_THIS_CHAT: &str =
    "connects all of this chat's servers; this one is two";
pub const CONTAINS_NO_EVENTS: &str = "contains no events";
pub const CTRL_C_CANCELS_STARTUP: &str = "Ctrl-C cancels startup";
pub const CTRL_C_TO_STOP_THE_SERVER: &str = "Ctrl-C to stop the server";
pub const DID_YOU_MEAN_WORKERS: &str = "did you mean `workers`?";
pub const DISCONNECTED_BEFORE_THE_SERVER_HAD_HANDLED: &str =
    "disconnected before the server had handled all of your input";
pub const DOES_NOT_SPEAK_TLS: &str = "does not speak TLS";
pub const DOES_THE_SERVER: &str = "Does the server";
pub const DOES_THE_SERVERS_OWN_TERMINAL_SHOW: &str =
    "Does the server's own terminal show the same fingerprint?";
pub const ENTER_THE_SERVERS_IP_ADDRESS: &str = "Enter the server's IP address";
pub const ENTER_YOUR_IP_ADDRESS: &str = "Enter your IP address";
pub const FOR_TOO_LONG: &str = "for too long";
pub const FROM_OTHER_SERVERS: &str = "from other servers";
pub const HEXADECIMAL_DIGITS: &str = "64 hexadecimal digits";
pub const IS_NOT_A_DATABASE: &str = "is not a database";
pub const IS_STILL_USING_THE_NAME_ALICE: &str = "is still using the name alice";
pub const IS_YOUR_PARTNER: &str = "is your partner";
pub const IT_IS_A_DIRECTORY: &str = "it is a directory";
pub const KEEPS_RUNNING: &str = "keeps running";
pub const LEAVE_ALSO_EX_ALONE: &str = "leave (also: EX alone";
pub const LEAVE_ONE_FIRST: &str = "leave one first";
pub const LEFT_YOU_HAVE_NO_PARTNER_NOW: &str = "left; you have no partner now";
pub const LOGGED_IN_AS_ALICE: &str = "logged in as alice";
pub const LOGGED_IN_AS_BOB: &str = "logged in as bob";
pub const LOG_IN_FIRST: &str = "log in first";
pub const MAY_HAVE_BEEN_LOST: &str = "may have been lost";
pub const NEW_PASSWORD_FOR: &str = "new password for";
pub const NOBODY_ELSE_IS_IN_THIS_ROOM: &str = "nobody else is in this room";
pub const NOBODY_ELSE_IS_LOGGED_IN: &str = "* nobody else is logged in";
pub const NOBODY_IS_NOT_ONLINE_NAMES_LISTS_THE_USERS: &str =
    "nobody is not online; /names lists the users";
pub const NOTHING_WAS_SAVED: &str = "nothing was saved";
pub const NOTHING_WAS_SENT: &str = "nothing was sent";
pub const NOT_SENT: &str = "not sent: ";
pub const NOT_SENT_YOU_ARE_NOT_CONNECTED: &str = "not sent: you are not connected";
pub const NOT_SENT_YOU_ARE_NO_LONGER_IN_LOBBY: &str = "not sent: you are no longer in lobby";
pub const NOT_SENT_YOU_HAVE_NO_PARTNER: &str = "not sent: you have no partner yet";
pub const NO_CLIENTS_ARE_CONNECTED: &str = "no clients are connected";
pub const NO_LINE_FEED_AFTER_YOUR_DOCUMENT: &str = "no line feed after your document";
pub const NO_PROGRAM_IS_LISTENING: &str = "no program is listening on that port";
pub const ON_OTHER_SERVERS_ALICE_ONE: &str = "on other servers: alice (one)";
pub const PASSWORD_FOR_ALICE: &str = "password for alice:";
pub const PORT_50001_IS_IN_USE_BY_A_CLOSED: &str =
    "port 50001 is in use by a closed outgoing connection (TIME_WAIT); waiting up to a minute";
pub const PORT_50003_ON_LOOPBACK_IS_TAKEN_BY_NETWORK: &str =
    "port 50003 on 127.0.0.1 is taken by network";
pub const REDIS_HAS_LOST_DATA: &str = "Redis has lost data";
pub const REFUSES_WRITES_OOM: &str = "refuses writes: \"OOM\"";
pub const REPEAT_THE_PASSWORD: &str = "repeat the password";
pub const REPEAT_THE_PASSWORD_AGAIN: &str = "repeat the password:";
pub const SAVE_IT_AS_UTF: &str = "save it as UTF-8";
pub const START_ITS_READER_FIRST: &str = "start its reader first";
pub const START_THE_WRITER_FIRST: &str = "start the writer first";
pub const TELL_THE_OPERATOR: &str = "tell the operator";
pub const THERE_IS_NO_COMMAND: &str = "there is no command";
pub const THE_OTHER_SERVERS_ARE_BACK: &str = "the other servers are back";
pub const THE_PASTE_WAS_NOT_SENT: &str = "the paste was not sent";
pub const THE_PROGRAM_HAS_ENDED: &str = "the program has ended";
pub const THE_SERVER_CAN_START: &str = "The server can start.";
pub const THE_SERVER_HAS_NO_OLD_MESSAGES_WITH_CAROL: &str =
    "* the server has no old messages with carol\n";
pub const THE_SERVER_SPEAKS_TLS: &str = "127.0.0.1 50000 speaks TLS";
pub const THE_SERVER_WILL_CREATE: &str = "The server will create";
pub const THE_SERVER_WILL_DISCONNECT_YOU: &str = "the server will disconnect you";
pub const THE_WORKER_CALLED_BACK_ON: &str = "the worker called back on 127.0.0.1:";
pub const TURN_IT_OFF_AT_THE_PROXY: &str = "turn it off at the proxy";
pub const TWO_DIFFERENT_PASSWORDS: &str = "two different passwords";
pub const TYPE_A_MESSAGE: &str = "type a message, or /help";
pub const UNREAD_MESSAGES_CAROL_1: &str = "unread messages: carol 1";
pub const WAITING_FOR_REDIS: &str = "Waiting for Redis";
pub const WHEN_TO_RING: &str = "when to ring";
pub const WRONG_PASSWORD_FOR_ALICE: &str = "wrong password for alice";
pub const YOUR_PASSWORD_WAS_CHANGED: &str = "your password was changed";
pub const YOUR_SEAT_WAS_GIVEN_AWAY: &str = "your seat was given to another client";
pub const YOU_ARE_LOGGED_IN_AS_ALICE: &str = "you are logged in as alice";
pub const YOU_ARE_LOGGED_IN_AS_CAROL: &str = "you are logged in as carol";
pub const YOU_ARE_TALKING_TO: &str = "you are talking to";
pub const YOU_ARE_TALKING_TO_ALICE: &str = "you are talking to alice";
pub const YOU_HAVE_NO_PARTNER: &str = "you have no partner";
pub const YOU_JOINED_LOBBY: &str = "you joined lobby";
pub const YOU_LEFT_LOBBY: &str = "you left lobby";
pub const YOU_WERE_DISCONNECTED: &str = "You were disconnected";
pub const YOU_WERE_IDLE_FOR_TOO_LONG: &str = "you were idle for too long";
