// Runs the commands of the table in commands.js.

const DURATION = /^[0-9]+[smhd]$/i;

/** Runs a command line. Returns whether to clear the box. */
function obey(line) {
  const { word, rest } = readCommand(line);
  const row = commandNamed(word);
  const wrong = (text) => {
    addNote(chosen, text, 'trouble');
    return false;
  };
  if (!row)
    return wrong(`There is no command /${word}; try /help. To send it as a message, begin with //.`);
  const usage = () => wrong(`Usage: ${usageOf(row)}`);
  const name = row.names[0];
  const [first, more] = firstWord(rest);
  if (!session.name && !['login', 'help', 'me', 'to', 'clear', 'quit', 'invitation'].includes(name))
    return wrong('You are not logged in: use /login NAME.');
  switch (name) {
    case 'login':
      if (!first) return usage();
      if (session.name) return wrong(`You are logged in as ${session.name}. To use another name, log out first.`);
      if (!session.isIn) return wrong('You are not connected.');
      session.login(first);
      return true;
    case 'logout':
      setTimeout(logout, 0);
      return true;
    case 'passwd':
      if (!settings.passwords) return wrong('This server does not use passwords.');
      askNewPassword();
      return true;
    case 'invitation':
      if (!first) return usage();
      session.invite(first, session.attempt?.name ?? null);
      return true;
    case 'all':
      return rest ? sayElsewhere('everyone', undefined, rest) : usage();
    case 'msg':
      return first && more ? sayElsewhere('person', first, more) : usage();
    case 'reply':
      if (!rest) return usage();
      return composer.replyTo ? sayElsewhere('person', composer.replyTo, rest) : wrong('No direct messages yet.');
    case 'send':
      return first && more ? sayElsewhere('room', first, more) : usage();
    case 'me':
      return rest ? say(chosen, rest, true) : usage();
    case 'to':
    case 'query': {
      const key = Conversations.keyOf('room', first);
      if (!first && name === 'query') return usage();
      composer.sent();
      if (!first || first === 'partner') choose('partner');
      else if (name === 'to' && ['all', 'everyone'].includes(first.toLowerCase())) choose('everyone');
      else if (name === 'to' && conversations.get(key)) choose(key);
      else talkTo(first.replace(/^@/, ''));
      return false;
    }
    case 'join':
      if (!/^#?[A-Za-z0-9_.-]{1,32}$/.test(first)) return usage();
      composer.sent();
      joinRoom(first.replace(/^#/, ''), undefined, more || null);
      return false;
    case 'leave': {
      const room = first ? conversations.get(Conversations.keyOf('room', first.replace(/^#/, ''))) : chosen;
      if (room?.kind !== 'room') return first ? wrong(`You are not in ${first}.`) : usage();
      composer.sent();
      leaveRoom(room);
      return false;
    }
    case 'topic':
      if (chosen.kind !== 'room') return wrong('/topic works only in a room.');
      session.topic(chosen.name, rest || null);
      return true;
    case 'rooms':
      askRoom();
      return true;
    case 'names':
      askPerson();
      return true;
    case 'ignore':
      if (first) ignore(first, !isIgnored(first));
      else addNote(chosen, ignored.size ? `Ignored: ${[...ignored].join(', ')}.` : 'You are not ignoring anyone.');
      return true;
    case 'room': {
      const parts = first && roomRule(more);
      if (!parts) return usage();
      session.order('ROOM', { room: first.replace(/^#/, ''), ...parts });
      return true;
    }
    case 'invite': {
      const room = more || (chosen.kind === 'room' ? chosen.name : '');
      if (!first || !room) return usage();
      session.order('INVITE', { room: room.replace(/^#/, ''), username: first });
      return true;
    }
    case 'report':
    case 'kick':
    case 'mute':
    case 'unmute':
    case 'ban':
    case 'unban':
      return order(name, first, more) ? true : usage();
    case 'clear':
      clearChosen();
      return true;
    case 'help': {
      const rows = first ? [commandNamed(first.replace(/^\//, ''))].filter(Boolean) : COMMANDS;
      if (!rows.length) return wrong(`There is no command ${first}.`);
      addNote(
        chosen,
        rows.map((there) => `${usageOf(there)}: ${there.help}`).join('\n') +
          (first ? '' : '\nTo send text that begins with /, start it with //.'),
      );
      return true;
    }
    case 'quit':
      session.leave();
      return true;
    default:
      return usage();
  }
}

/** Sends a text to another conversation, which is opened. */
function sayElsewhere(kind, name, text) {
  const there =
    kind === 'room'
      ? conversations.get(Conversations.keyOf(kind, name.replace(/^#/, '')))
      : conversations.open(kind, name);
  if (!there) {
    addNote(chosen, `You are not in ${name}.`, 'trouble');
    return false;
  }
  return say(there, text, false);
}

/** Reads a rule of /room: the parts of the document, or `null` if there is no such rule. */
function roomRule(text) {
  const [rule, argument, off, ...rest] = text.split(/\s+/).filter(Boolean);
  if (rest.length || (off && rule !== 'moderator')) return null;
  switch (rule) {
    case undefined:
      return {};
    case 'open':
    case 'invite':
      return argument ? null : { access: rule };
    case 'password':
      return argument ? { access: rule, password: argument } : null;
    case 'moderated':
    case 'unmoderated':
      return argument ? null : { moderated: rule === 'moderated' ? 'yes' : 'no' };
    case 'moderator':
      return argument && (!off || off === 'off') ? { moderator: argument, remove: off ? true : null } : null;
    default:
      return null;
  }
}

/** Sends a command of a moderator, or a report. Returns whether it was complete. */
function order(name, username, rest) {
  if (!username || (name === 'report' && !rest)) return false;
  const parts = { username };
  const [, room, inRoom] = /^in\s+#?(\S+)\s*(.*)$/.exec(rest) ?? [];
  if (room && ['kick', 'mute', 'unmute'].includes(name)) {
    parts.room = room;
    rest = inRoom;
  }
  const [duration, reason] = firstWord(rest);
  if (name === 'mute' && rest) parts.duration = rest;
  if (name === 'ban') {
    const isTimed = /^\d/.test(duration);
    if (isTimed) parts.duration = duration;
    parts.reason = isTimed ? reason : rest;
  }
  if (name === 'kick' || name === 'report') parts.reason = rest;
  session.order(name.toUpperCase(), parts);
  return true;
}
