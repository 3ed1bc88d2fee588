// Connects the session, the screen and the user.

const screen_ = new Screen();
const session = new Session({
  state(text, isThere, comeBack, elsewhere) {
    const state = $('state');
    state.textContent = shown(text);
    document.body.classList.toggle('lost', !isThere);
    if (comeBack) {
      const button = element('button', '', comeBack);
      button.type = 'button';
      button.addEventListener('click', () => session.comeBack());
      state.append(' ', button);
    }
    if (elsewhere) {
      const link = element('a', '', 'open its page');
      link.href = elsewhere;
      state.append(' ', link);
    }
    drawTarget();
  },
  changed: () => drawTarget(),
  travelled(way, text, said) { showStep(way, text, said); },
  whoAreYou(why) { askName(why); },
  passwordWanted(name, isNew, why) { askPassword(name, isNew, why); },
  invitationWanted(name, isWrong) { askInvitation(name, isWrong); },
  loggedIn(name) {
    $('login').hidden = true;
    for (const id of ['password', 'again']) $(id).value = '';
    session.listener.state(`Logged in as ${name}.`, true);
    screen_.conversation('everyone', 'Everyone');
    drawTarget();
  },
  partner(partner, isThere) {
    const beside = screen_.conversation('partner', 'Partner');
    screen_.note(beside, isThere ? `${partner.label} is your partner` : `${partner.label} left`);
    drawTarget();
  },
  said(said) {
    let conversation;
    if (said.scope === 'public') conversation = screen_.conversation('everyone', 'Everyone');
    else if (said.scope === 'direct') conversation = screen_.conversation('person:' + said.from.toLowerCase(), said.from);
    else if (said.scope === 'room') conversation = screen_.conversation('room:' + said.room.toLowerCase(), '# ' + said.room);
    else conversation = screen_.conversation('partner', 'Partner');
    // After a reconnect, the server sends old messages that are already shown.
    if (said.old && said.time && conversation.newest && new Date(said.time) <= conversation.newest) return;
    screen_.say(conversation, { ...said, mine: session.name !== null && said.from === session.name });
    if (!said.old) notify(said.from, said.text, conversation);
  },
  notice(text) { if (screen_.chosen) screen_.note(screen_.chosen, text); },
  trouble(text) { if (screen_.chosen) screen_.note(screen_.chosen, text, 'trouble'); },
  joined(room) {
    const conversation = screen_.conversation('room:' + room.toLowerCase(), '# ' + room);
    screen_.note(conversation, `you are in ${room}`);
    if (wantsRoom === room.toLowerCase()) { screen_.choose(conversation.key); wantsRoom = null; }
  },
  left(room) { screen_.remove('room:' + room.toLowerCase()); },
  topic(said) {
    const conversation = screen_.conversation('room:' + said.room.toLowerCase(), '# ' + said.room);
    screen_.note(conversation, said.topic ? `topic: ${said.topic}` + (said.username ? ` (set by ${said.username})` : '') : 'no topic');
  },
  roomNews(room, text) { screen_.note(screen_.conversation('room:' + room.toLowerCase(), '# ' + room), text); },
  who(users) { people.clear(); for (const user of users) people.add(user); drawPeople(); },
  person(name, isThere) { if (isThere) people.add(name); else people.delete(name); drawPeople(); },
  roomList(rooms) { roomList = rooms; drawPeople(); },
  back(seconds) {
    const words = `You were disconnected for ${seconds} s. You missed any public, direct and partner messages from that time; the last messages of your rooms follow.`;
    for (const there of screen_.conversations.values()) screen_.note(there, words);
  },
});

// --- the documents of the handshake

const MEANINGS = [
  [/<Port>/, 'in', 'The portal reserves a seat for you, for two seconds.'],
  [/<HandshakePasscode>/, 'out', 'The page sends the passcode.'],
  [/Connection successful/, 'in', 'The worker admits you. The passcode can’t be used again.'],
  [/Wrong handshake passcode/, 'in', 'The passcode was wrong. Each passcode allows only one try.'],
  [/<command>FULL/, 'in', 'No seat is free. The page retries every 2 s.'],
];

function showStep(way, text) {
  const found = MEANINGS.find(([pattern, there]) => there === way && pattern.test(text));
  if (!found) return;
  // A ticket is the first document of a new connection.
  if (found === MEANINGS[0]) $('steps').replaceChildren();
  const line = element('li', '', found[2]);
  line.append(element('code', '', text));
  $('steps').append(line);
  while ($('steps').children.length > 6) $('steps').firstElementChild.remove();
}

if (document.body.dataset.board) {
  $('board').href = document.body.dataset.board;
  $('board').hidden = false;
}

// --- the login form

let asksPassword = false;
let asksInvitation = false;

function askName(why) {
  asksPassword = false;
  asksInvitation = false;
  $('login').hidden = false;
  $('name-part').hidden = false;
  $('password-part').hidden = true;
  $('again-part').hidden = true;
  $('cancel-login').hidden = true;
  if (why) $('login-question').textContent = `${why}.`;
}

function askInvitation(name, isWrong) {
  askPassword(name, false);
  asksInvitation = true;
  const question = `The name ${name} is new, and this server needs an invitation for it. Enter its code.`;
  $('login-question').textContent = isWrong ? `That invitation is not valid; each can be used once. ${question}` : question;
}

function askPassword(name, isNew, why) {
  asksPassword = true;
  asksInvitation = false;
  $('login').hidden = false;
  $('name-part').hidden = true;
  $('password-part').hidden = false;
  $('again-part').hidden = !isNew;
  $('cancel-login').hidden = false;
  const question = isNew ? `Choose a password for the new account ${name}.` : `Enter the password of ${name}.`;
  $('login-question').textContent = why ? `${why}. ${question}` : question;
  $('password').autocomplete = isNew ? 'new-password' : 'current-password';
  $('password').value = '';
  $('again').value = '';
  $('password').focus();
}

$('login').addEventListener('submit', (event) => {
  event.preventDefault();
  if (asksInvitation) {
    const code = $('password').value.trim();
    asksInvitation = false;
    if (code) session.invite(code);
    else askInvitation(session.wanted, false);
    return;
  }
  if (!asksPassword) {
    const name = $('name').value.trim();
    if (name) session.login(name);
    return;
  }
  const password = $('password').value;
  if (!$('again-part').hidden && password !== $('again').value) {
    askPassword(session.wanted, true, 'The passwords differ');
    return;
  }
  if (password) session.prove(password);
});
$('cancel-login').addEventListener('click', () => { session.wanted = null; session.password = null; askName(); $('name').focus(); });

// --- people and rooms

const people = new Set();
let roomList = [];
let wantsRoom = null;

function drawPeople() {
  const items = [...people].sort((a, b) => a.localeCompare(b)).map((name) => {
    const item = element('li');
    const button = element('button', '', name === session.name ? `${name} (you)` : name);
    button.type = 'button';
    button.disabled = name === session.name;
    button.addEventListener('click', () => talkTo(name));
    item.append(button);
    return item;
  });
  $('names').replaceChildren(...items);
  $('show-people').textContent = people.size ? `People (${people.size})` : 'People';
  $('rooms').replaceChildren(...roomList.map(({ name, members }) => {
    const item = element('li');
    const button = element('button', '', `# ${name} (${members})`);
    button.type = 'button';
    button.addEventListener('click', () => joinRoom(name));
    item.append(button);
    return item;
  }));
}

function talkTo(name) {
  screen_.conversation('person:' + name.toLowerCase(), name);
  screen_.choose('person:' + name.toLowerCase());
  showPeople(false);
  $('text').focus();
}

function joinRoom(room) {
  showPeople(false);
  if (session.inRooms.has(room)) screen_.choose('room:' + room.toLowerCase());
  else if (!session.name) askName('Log in to join a room');
  else { wantsRoom = room.toLowerCase(); session.join(room); }
}

function showPeople(wanted) {
  $('people').hidden = !wanted;
  $('show-people').setAttribute('aria-expanded', wanted);
  if (wanted) session.isIn && session.refresh();
}

$('show-people').addEventListener('click', () => showPeople($('people').hidden));
$('join').addEventListener('submit', (event) => {
  event.preventDefault();
  const room = $('room').value.trim();
  if (room) joinRoom(room);
  $('room').value = '';
});

// --- sending messages

/** Identifies the recipient of the text in the box. The value changes if the recipient changes. */
function target() {
  const there = screen_.chosen;
  if (!there || !session.isIn) return null;
  const [kind] = there.key.split(':');
  if (kind === 'partner') return session.partner ? `partner:${session.link}:${session.partner.arrival}` : null;
  if (!session.name) return null;
  if (kind === 'room') return [...session.inRooms].some((room) => 'room:' + room.toLowerCase() === there.key) ? there.key : null;
  return there.key;
}

function describe() {
  const there = screen_.chosen;
  if (!session.isIn) return 'Not connected. The page keeps your draft.';
  if (!there) return 'Message';
  const [kind] = there.key.split(':');
  if (kind === 'partner') return session.partner ? `To ${session.partner.label}, your partner` : 'You have no partner yet';
  if (!session.name) return 'Log in to write here';
  if (kind === 'everyone') return 'To everyone';
  return kind === 'room' ? `To the room ${there.name.slice(2)}` : `To ${there.name} only`;
}

function drawTarget() {
  $('to').textContent = shown(describe());
}

// The recipient when the user began the draft. Sending it to another one needs a confirmation.
let draft = null;

function sized() {
  const box = $('text');
  box.style.setProperty('height', 'auto');
  box.style.setProperty('height', `${box.scrollHeight + 2}px`);
}

$('text').addEventListener('input', () => {
  if (!$('text').value) draft = null;
  else if (!draft) draft = { target: target(), words: describe() };
  sized();
});

let isComposing = false;
$('text').addEventListener('compositionstart', () => { isComposing = true; });
// Some browsers send the Enter that ends a composition after its end.
$('text').addEventListener('compositionend', () => { setTimeout(() => { isComposing = false; }, 0); });
$('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
});
$('say').addEventListener('submit', (event) => { event.preventDefault(); submit(); });

function putBack(text) {
  $('text').value = text;
  draft = { target: target(), words: describe() };
  sized();
  $('text').focus();
}

function submit() {
  const text = $('text').value;
  if (!text.trim()) return;
  const command = text.startsWith('/') && !text.startsWith('//');
  if (!command && draft && draft.target !== target()) {
    const now = describe();
    screen_.note(screen_.chosen, `Not sent, because the recipient has changed from “${draft.words}” to “${now}”. Press Enter again to send it.`, 'trouble');
    draft = { target: target(), words: now };
    return;
  }
  const sent = command ? obey(text) : say(screen_.chosen, text.startsWith('//') ? text.slice(1) : text, false);
  if (!sent) return;
  $('text').value = '';
  draft = null;
  sized();
}

/** Sends a message in a conversation. Returns whether to clear the box. */
function say(conversation, text, me) {
  const [kind] = conversation.key.split(':');
  const named = kind === 'partner' && /^%([A-Za-z0-9_.-]{1,32})%([^]*)$/.exec(text);
  if (named) {
    // Seed 003's form of a direct message.
    const person = screen_.conversation('person:' + named[1].toLowerCase(), named[1]);
    return say(person, named[2], me);
  }
  const refuse = (why) => { screen_.kept(conversation, text, why, putBack); return true; };
  if (!session.isIn) return refuse('you are not connected');
  if (documents.bytes(documents.command('SAY', { room: conversation.name, message: text }, true)) > session.max) {
    screen_.note(conversation, `Not sent: the message is longer than ${session.max} bytes. Shorten it and send it again.`, 'trouble');
    return false;
  }
  if (kind === 'partner' && !session.partner) return refuse('you have no partner');
  if (kind !== 'partner' && !session.name) return refuse('you are not logged in');
  const room = kind === 'room' ? [...session.inRooms].find((there) => 'room:' + there.toLowerCase() === conversation.key) : null;
  if (kind === 'room' && !room) return refuse('you are not in that room');
  const from = session.name || 'you';
  const fate = screen_.say(conversation, { from, text, me, mine: true });
  if (kind === 'partner') session.chat(text, me, fate);
  else if (kind === 'everyone') session.everyone(text, me, fate);
  else if (kind === 'person') session.person(conversation.name, text, me, fate);
  else session.room(room, text, me, fate);
  return true;
}

const HELP = [
  '/login NAME: log in', '/names: list the people', '/all TEXT: send to everyone', '/msg NAME TEXT: send to one person',
  '/me TEXT: send as an action, in this conversation', '/join ROOM, /leave [ROOM], /rooms', '/topic [TEXT]: show or set the topic of this room',
  '/report NAME REASON: report a person to the operator and the moderators',
  'For moderators: /kick NAME [REASON], /mute NAME [DURATION], /unmute NAME, /ban NAME [DURATION] [REASON], /unban NAME; a duration is 30s, 10m, 2h or 7d',
  '/to NAME, /to all, /to partner, /to ROOM: switch to another conversation', '/quit: leave', 'To send a text that begins with /, begin it with //.',
];

/** Runs a command line that begins with a /. Returns whether it succeeded. */
function obey(line) {
  const [word, ...rest] = line.slice(1).split(' ');
  const all = rest.join(' ').trim();
  const note = (text, kind) => { screen_.note(screen_.chosen, text, kind); return kind !== 'trouble'; };
  const needsName = () => (session.name ? null : note('You are not logged in: use /login NAME.', 'trouble'));
  switch (word.toLowerCase()) {
    case 'help': for (const text of HELP) note(text); return true;
    case 'login': if (!all) return note('Usage: /login NAME', 'trouble'); session.login(all); return true;
    case 'quit': case 'exit': session.leave(); return true;
    case 'names': case 'who': showPeople(true); return note(people.size ? `logged in: ${[...people].sort().join(', ')}` : 'no one has logged in');
    case 'all': if (needsName() === false) return false; return say(screen_.conversation('everyone', 'Everyone'), all, false);
    case 'msg': case 'dm': {
      const [to, ...text] = rest;
      if (!to || !text.join(' ').trim()) return note('Usage: /msg NAME TEXT', 'trouble');
      return say(screen_.conversation('person:' + to.toLowerCase(), to), text.join(' '), false);
    }
    case 'me': return all ? say(screen_.chosen, all, true) : note('Usage: /me TEXT', 'trouble');
    case 'join': if (!all) return note('Usage: /join ROOM', 'trouble'); joinRoom(all); return true;
    case 'leave': {
      const name = all || (screen_.chosen.key.startsWith('room:') ? screen_.chosen.name.slice(2) : '');
      if (!name) return note('Usage: /leave ROOM', 'trouble');
      if (session.isIn) session.leaveRoom(name);
      return true;
    }
    case 'report': case 'kick': case 'mute': case 'unmute': case 'ban': case 'unban':
      if (needsName() === false) return false;
      return moderate(word.toLowerCase(), rest, note);
    case 'rooms': session.refresh(); showPeople(true); return true;
    case 'topic': {
      if (!screen_.chosen.key.startsWith('room:')) return note('/topic works only in a room', 'trouble');
      if (session.isIn) session.setTopic(screen_.chosen.name.slice(2), all || null);
      return true;
    }
    case 'to': {
      if (!all) return note('Usage: /to NAME, /to all, /to partner or /to ROOM', 'trouble');
      const lower = all.toLowerCase();
      const key = ['all', 'everyone'].includes(lower) ? 'everyone' : lower === 'partner' ? 'partner' : screen_.conversations.has('room:' + lower) ? 'room:' + lower : null;
      if (key) { screen_.conversation(key, key === 'everyone' ? 'Everyone' : 'Partner'); screen_.choose(key); } else talkTo(all);
      return true;
    }
    default: return note(`Unknown command /${word}; /help lists the commands. To send the line as a message, begin it with //.`, 'trouble');
  }
}

const DURATION = /^[0-9]+[a-z]+$/i;

/** Sends a command of a moderator, or a report. Returns whether it was sent. */
function moderate(word, rest, note) {
  const [username, ...words] = rest.filter((there) => there);
  const usage = {
    report: 'NAME REASON', kick: 'NAME [REASON]', mute: 'NAME [DURATION]', unmute: 'NAME', ban: 'NAME [DURATION] [REASON]', unban: 'NAME',
  };
  if (!username || (word === 'report' && !words.length)) return note(`Usage: /${word} ${usage[word]}`, 'trouble');
  const parts = { username };
  if (word === 'mute' && words.length) parts.duration = words.join(' ');
  if (word === 'ban' && words.length && DURATION.test(words[0])) parts.duration = words.shift();
  if (['report', 'kick', 'ban'].includes(word)) parts.reason = words.join(' ');
  session.moderate(word.toUpperCase(), parts);
  return true;
}

// --- notifications, if the browser allows them

function notify(from, text, conversation) {
  if (document.visibilityState === 'visible' || !window.isSecureContext) return;
  if ('Notification' in window && Notification.permission === 'granted') {
    new Notification(`${from}${conversation.key.startsWith('room:') ? ` in ${conversation.name}` : ''}`, { body: shown(text).slice(0, 200), tag: conversation.key });
  }
}

if ('Notification' in window) {
  $('notify').hidden = window.isSecureContext && Notification.permission === 'granted';
  $('notify').addEventListener('click', () => {
    if (!window.isSecureContext) {
      screen_.note(screen_.chosen, 'Browsers allow notifications only for pages over https or from this machine (localhost).');
      return;
    }
    Notification.requestPermission().then((answer) => { $('notify').hidden = answer === 'granted'; });
  });
}

// --- a phone's keyboard, a hidden page, and the user's activity

if (window.visualViewport) {
  const fit = () => {
    document.documentElement.style.setProperty('--height', `${window.visualViewport.height}px`);
    if (document.activeElement === $('text')) window.scrollTo(0, 0);
  };
  window.visualViewport.addEventListener('resize', fit);
  fit();
}
let hiddenAt = null;
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'hidden') { hiddenAt = Date.now(); return; }
  if (!session.socket && !session.isLeaving && session.timer !== null) session.comeBack();
  else if (hiddenAt && Date.now() - hiddenAt > 15000) session.ask();
});
window.addEventListener('pageshow', (event) => { if (event.persisted) session.comeBack(); });
for (const kind of ['keydown', 'pointerdown']) document.addEventListener(kind, () => session.touched(), { passive: true });

screen_.onchoose = () => drawTarget();
screen_.conversation('partner', 'Partner');
$('way').open = window.matchMedia('(min-width: 641px) and (min-height: 600px)').matches;
session.connect();
