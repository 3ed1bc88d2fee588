// The commands that a user can type, one row each: the first name is the usual one. The table also
// provides the help and the suggestions. A test compares it with the terminal client's.

const COMMANDS = [
  { names: ['login'], takes: 'NAME', help: 'log in with your password' },
  { names: ['logout'], takes: '', help: 'log out; this browser does not stay signed in' },
  { names: ['passwd'], takes: '', help: 'change your password' },
  { names: ['invitation'], takes: 'CODE', help: 'use an invitation code for a new name' },
  { names: ['all', 'pm'], takes: 'TEXT', help: 'send TEXT to everyone who is logged in' },
  { names: ['msg', 'dm', 'w'], takes: 'NAME TEXT', help: 'send TEXT to NAME alone' },
  { names: ['reply', 'r'], takes: 'TEXT', help: 'send TEXT to the sender of your last direct message' },
  { names: ['send'], takes: 'ROOM TEXT', help: 'send TEXT to a room that you are in' },
  { names: ['me'], takes: 'TEXT', help: 'send an action: /me waves appears as * alice waves' },
  { names: ['to'], takes: '[ROOM|NAME|all]', help: 'switch to a conversation (default: with your partner)' },
  { names: ['query'], takes: 'NAME', help: 'switch to the conversation with NAME' },
  { names: ['join'], takes: 'ROOM [PASSWORD]', help: 'join a room, or create it' },
  { names: ['leave', 'part'], takes: '[ROOM]', help: 'leave a room' },
  { names: ['topic'], takes: '[TEXT]', help: 'show this room’s topic, or change it to TEXT' },
  {
    names: ['room'],
    takes: 'ROOM [open|invite|password WORD|moderated|unmoderated|moderator NAME [off]]',
    help: 'show or change who may join a room, post in it, and moderate it (by default, its creator)',
  },
  { names: ['invite'], takes: 'NAME [ROOM]', help: 'invite a user to a room (default: this one)' },
  { names: ['rooms', 'list'], takes: '', help: 'list the rooms and how many people are in each' },
  { names: ['names', 'who'], takes: '', help: 'list who is logged in' },
  {
    names: ['ignore'],
    takes: '[NAME]',
    help: 'hide or show messages from NAME; without NAME, list the hidden names',
  },
  { names: ['report'], takes: 'NAME REASON', help: 'report a user to the operator and the moderators' },
  {
    names: ['kick'],
    takes: 'NAME [in ROOM] [REASON]',
    help: 'as a moderator: remove a user from the server or a room, and keep them out for a minute',
  },
  {
    names: ['mute'],
    takes: 'NAME [in ROOM] [DURATION]',
    help: 'as a moderator: reject a user’s messages, everywhere or in a room, for a DURATION such as 10m or 7d',
  },
  { names: ['unmute'], takes: 'NAME [in ROOM]', help: 'as a moderator: end a mute' },
  {
    names: ['ban'],
    takes: 'NAME [DURATION] [REASON]',
    help: 'as a moderator: disconnect a user and reject later logins',
  },
  { names: ['unban'], takes: 'NAME', help: 'as a moderator: end a ban' },
  { names: ['clear'], takes: '', help: 'clear this conversation on your screen' },
  { names: ['help'], takes: '[COMMAND]', help: 'list the commands, or explain one' },
  { names: ['quit', 'exit', 'disconnect'], takes: '', help: 'disconnect; this browser stays signed in' },
];

/** Returns the row of a command, if there is one with that name. */
function commandNamed(name) {
  return COMMANDS.find((row) => row.names.includes(name.toLowerCase()));
}

/** Returns a command's line in the help. */
function usageOf(row) {
  return `/${row.names[0]}${row.takes ? ` ${row.takes}` : ''}`;
}

/** Splits a command line: `/msg bob hello` is `{ word: 'msg', rest: 'bob hello' }`. */
function readCommand(line) {
  const [, word, rest] = /^\/(\S*)\s*([^]*)$/.exec(line);
  return { word: word.toLowerCase(), rest: rest.trim() };
}

/** Splits the first word off. */
function firstWord(text) {
  const [, word, rest] = /^(\S*)\s*([^]*)$/.exec(text);
  return [word, rest];
}
