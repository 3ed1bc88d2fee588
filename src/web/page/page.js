// Connects the session, the conversations, the parts of the page, and the user.

const settings = JSON.parse(document.body.dataset.settings);
const chatName = /^[\d.:[\]]*$|^localhost$/.test(location.hostname) ? 'Chat' : location.hostname;
// The page's addresses are relative to its path, which needs its slash for that.
if (!location.pathname.endsWith('/'))
  history.replaceState(null, '', `${location.pathname}/${location.search}${location.hash}`);

const store = new Store();
const conversations = new Conversations();
const online = new Set();
let chosen = null;
let remembered = {}; // what the browser remembers for the name
let ignored = new Set();
let isGuest = false;
let lastName = null; // the name whose conversations are shown
let hasLanded = false; // its first conversation has been chosen
let lastSender = null; // of the last direct message
let wantedAddress = location.hash;
let wantedRoom = null; // the room to show once it has been joined

const isMe = (name) => session.name !== null && name.toLowerCase() === session.name.toLowerCase();
const isIgnored = (name) => ignored.has(name.toLowerCase());
const isShown = () => !$('shell').hidden;
const isLooking = () => document.visibilityState === 'visible' && document.hasFocus();
const isSeen = (conversation) => conversation === chosen && isShown() && isLooking() && log.isAtEnd;

const session = new Session({
  state: drawState,
  welcomed(away) {
    drawState({ text: '' });
    if (away !== null) {
      const words = `You were disconnected for ${away} s.`;
      const partner = conversations.get('partner');
      if (partner?.items.length)
        addNote(
          partner,
          `${words} Messages from that time are missing: the server does not keep messages between partners.`,
        );
      if (chosen && chosen !== partner) addNote(chosen, words);
    }
  },
  changed: drawHeading,
  disconnected() {
    for (const there of conversations.all.values()) {
      there.isLoading = false;
      if (there.kind === 'room') there.isMember = false;
    }
    drawHeading();
  },
  travelled: showStep,
  askName(why, name) {
    if (!isGuest || why) {
      showCard();
      welcome.askName(why, name);
    } else showShell();
  },
  askPassword(name, isNew, why) {
    showCard();
    welcome.askPassword(name, isNew, why);
  },
  askInvitation(name, isWrong) {
    showCard();
    welcome.askInvitation(name, isWrong);
  },
  loggedIn,
  tokenIssued(name, token) {
    store.set('session', { name, token });
  },
  tokenEnded() {
    store.set('session', null);
    return !settings.passwords;
  },
  partner(label, isThere) {
    addNote(conversations.open('partner'), isThere ? `${label} is your partner` : `${label} left`, 'presence');
    sidebar.draw();
    drawHeading();
  },
  said(said) {
    receive(said);
  },
  invited({ room, username }) {
    if (!isIgnored(username)) this.notice(`${username} invited you to the room ${room}. Type /join ${room}.`);
  },
  notice(text) {
    addNote(current(), text);
  },
  trouble(text) {
    addNote(current(), text, 'trouble');
  },
  joined,
  left(room) {
    closeConversation(Conversations.keyOf('room', room));
  },
  topic({ room, topic, username }) {
    const conversation = conversations.open('room', room);
    const isNew = conversation.topic !== topic;
    conversation.topic = topic;
    if (isNew || !conversation.items.at(-1)?.note)
      addNote(
        conversation,
        topic ? `Topic: ${topic}${username ? ` (set by ${username})` : ''}` : 'This room has no topic.',
      );
    drawHeading();
  },
  member(room, name, isThere) {
    const conversation = conversations.open('room', room);
    if (isThere) conversation.members.add(name);
    else conversation.members.delete(name);
    addNote(conversation, `${name} ${isThere ? 'joined' : 'left'}`, 'presence');
    people.draw();
  },
  person(name, isThere) {
    if (isThere) online.add(name);
    else online.delete(name);
    people.draw();
    if (chosen?.kind === 'person') drawHeading();
  },
});

const welcome = new Welcome(session, {
  guest() {
    isGuest = true;
    showShell();
    choose('partner', 'replace');
  },
  look: () => showLook(true),
});
const alerts = new Alerts(store, { opened: (key) => choose(key), note: (text) => addNote(current(), text) });
const sidebar = new Sidebar(conversations, {
  choose: (key) => {
    sidebar.toggle(false);
    choose(key);
    if (!sidebar.isDrawer) $('text').focus();
  },
  chosen: () => chosen,
  labelOf,
  hidePeople: () => people.toggle(false),
  drawCurtain,
  drawn: () => alerts.title(conversations.unread, isShown() && chosen ? labelOf(chosen) : '', chatName),
});
const people = new People({
  list: peopleOfChosen,
  menu: (name, anchor) => openMenu(anchor, personMenu(name)),
  isMe,
  isIgnored,
  refresh: refreshPeople,
  drawCurtain,
});
const log = new Log($('log'), {
  older: loadOlder,
  scrolled: drawSeen,
  menu: (item, anchor) => openMenu(anchor, messageMenu(item)),
  retry(item) {
    const conversation = chosen;
    forgetItem(conversation, item);
    say(conversation, item.text, item.me);
  },
  emptyText({ kind, name }) {
    if (kind === 'partner')
      return 'Your partner has the seat next to yours. You can talk without names.';
    if (kind === 'person') return `Only ${name} gets what you write here.`;
    if (kind === 'requests') return 'First messages from people you haven’t replied to appear here.';
    return 'No messages yet.';
  },
});
const composer = new Composer({
  submit,
  changed: () => {
    saveSoon();
  },
  recipient,
  note: (text) => addNote(current(), text),
  people: () =>
    [
      ...new Set([
        ...(chosen?.members ?? []),
        ...online,
        ...[...conversations.all.values()].filter((there) => there.kind === 'person').map((there) => there.name),
      ]),
    ]
      .filter((name) => !isMe(name))
      .sort(),
  rooms: () => [...conversations.all.values()].filter((there) => there.kind === 'room').map((there) => there.name),
});

// --- what is shown

function current() {
  return chosen ?? conversations.open('partner');
}

function labelOf(conversation) {
  if (conversation.kind !== 'partner') return conversation.label;
  return session.partner ? `Your partner: ${session.partner.label}` : 'Partner';
}

function showCard() {
  $('shell').hidden = true;
  $('welcome').hidden = false;
}

function showShell(key = 'partner') {
  $('welcome').hidden = true;
  $('shell').hidden = false;
  welcome.forget();
  if (!chosen) choose(conversations.get(key) ? key : 'partner', 'replace');
  drawMe();
}

function drawState({ text, isLost = false, action, elsewhere }) {
  for (const place of [$('state'), $('card-state')]) {
    place.replaceChildren(shown(text));
    place.classList.toggle('is-lost', isLost);
    if (action)
      place.append(
        ' ',
        buttonOf(action, '', () => session.comeBack()),
      );
    if (elsewhere) {
      const link = element('a', '', 'open its page');
      link.href = elsewhere;
      place.append(' ', link);
    }
  }
  $('state').hidden = !text;
  document.body.classList.toggle('is-lost', isLost);
}

function drawMe() {
  const name = session.name ?? session.identity?.name;
  $('me').textContent = name ?? 'Not logged in';
  $('me-picture').textContent = name ? initial(name) : '?';
  $('me-picture').style.setProperty('--hue', new Colours().of(name ?? '?'));
}

function drawHeading() {
  if (!chosen) return;
  const { kind, name, topic } = chosen;
  $('room-name').textContent = shown(labelOf(chosen));
  const words =
    kind === 'room' ? topic : kind === 'person' && online.size ? (online.has(name) ? 'online' : 'not logged in') : '';
  $('topic').hidden = !words;
  $('topic').title = words;
  $('topic').replaceChildren(linked(shown(words)));
  const label =
    {
      partner: session.partner ? `Message ${session.partner.label}` : 'You have no partner yet',
      requests: 'Choose a person to answer',
    }[kind] ?? `Message ${chosen.label}`;
  $('text').placeholder = shown(label);
  $('text').setAttribute('aria-label', shown(label));
  $('composer').hidden = kind === 'requests';
  sidebar.draw();
  people.draw();
}

function drawCurtain() {
  const isOpen = ($('sidebar').classList.contains('is-open') && sidebar.isDrawer) || (people.isOpen && people.isDrawer);
  $('curtain').hidden = !isOpen;
  $('main').inert = isOpen;
}

function drawSeen() {
  if (!chosen) return;
  if (isSeen(chosen) && chosen.read()) {
    sidebar.draw();
    saveSoon();
  }
  $('newest').hidden = log.isAtEnd;
  $('newest').textContent = chosen.unread ? `↓ ${chosen.unread} new` : '↓ Newest';
}

// --- conversations

/** Shows a conversation. Its address goes into the history of the browser, unless `how` is `replace` or `keep`. */
function choose(key, how = 'push') {
  const next = conversations.get(key);
  if (!next) return;
  if (chosen !== next) {
    if (chosen && !chosen.unread) chosen.mark = null;
    if (chosen) chosen.kept = null;
    next.kept = urgencyOf(next);
    chosen = next;
    composer.show(next);
    log.show(next);
    if (people.isOpen) refreshPeople();
    if (next.isStale && session.name) catchUp(next);
  }
  const address = addressOf(next);
  if (how !== 'keep' && location.hash !== address)
    history[how === 'replace' ? 'replaceState' : 'pushState'](null, '', address);
  remembered.chosen = key;
  drawHeading();
  drawSeen();
  saveSoon();
}

function addressOf({ kind, name }) {
  if (kind === 'room') return `#${name}`;
  return kind === 'person' ? `#@${name}` : `#!${kind}`;
}

function readAddress(hash) {
  const [, sign, name] = /^#([@!]?)([A-Za-z0-9_.-]{1,32})$/.exec(decodeURI(hash)) ?? [];
  if (!name) return null;
  if (sign === '!') return ['everyone', 'partner', 'requests'].includes(name) ? { kind: name } : null;
  return { kind: sign ? 'person' : 'room', name };
}

/** Opens the conversation of an address, such as that of an invitation to a room. */
function openAddress(hash, how) {
  let address = null;
  try {
    address = readAddress(hash);
  } catch {
    /* not a valid address */
  }
  if (!address) return false;
  const { kind, name } = address;
  if (kind === 'room') joinRoom(name, how);
  else if (kind === 'person' && isMe(name)) return false;
  else choose(conversations.open(kind, name).key, how);
  return true;
}

function joinRoom(name, how, password) {
  const conversation = conversations.open('room', name);
  if (!session.name) {
    if (session.isIn) {
      showCard();
      welcome.askName('Log in to join a room.');
    }
    return;
  }
  wantedRoom = conversation.key;
  choose(conversation.key, how);
  if (!conversation.isMember) session.join(name, { failed: (code, sentence) => cantJoin(conversation, sentence) }, password);
}

function cantJoin(conversation, sentence) {
  if (!conversation.items.length) closeConversation(conversation.key);
  addNote(current(), `You can’t join ${conversation.label}: ${sentence}.`, 'trouble');
}

function joined(room) {
  const conversation = conversations.open('room', room);
  conversation.name = room;
  conversation.isMember = true;
  if (wantedRoom === conversation.key) {
    wantedRoom = null;
    choose(conversation.key, 'replace');
  }
  catchUp(conversation);
  refreshMembers(conversation);
  saveSoon();
}

function closeConversation(key) {
  const conversation = conversations.get(key);
  if (!conversation) return;
  conversations.close(key);
  if (chosen === conversation) {
    chosen = null;
    const all = conversations.sorted();
    const next =
      ['room', 'everyone', 'partner'].map((kind) => all.find((there) => there.kind === kind)).find(Boolean) ??
      conversations.open('partner');
    choose(next.key, 'replace');
  }
  sidebar.draw();
  saveSoon();
}

function talkTo(name) {
  if (!session.name) {
    showCard();
    welcome.askName('Log in to write to one person.');
    return;
  }
  const conversation = conversations.open('person', name);
  choose(conversation.key);
  sidebar.toggle(false);
  if (people.isDrawer) people.toggle(false);
  $('text').focus();
}

// --- the user

$('join-room').addEventListener('click', askRoom);
$('find-person').addEventListener('click', askPerson);
$('settings').addEventListener('click', () => openMenu($('settings'), settingsMenu()));
$('room-menu').addEventListener('click', () => openMenu($('room-menu'), roomMenu()));
$('close-look').addEventListener('click', () => showLook(false));
$('newest').addEventListener('click', () => {
  log.toEnd();
  drawSeen();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !openedMenu && !document.querySelector('dialog[open]')) {
    if (!$('look').hidden) showLook(false);
    else if (people.isOpen && people.isDrawer) people.toggle(false);
    else if ($('sidebar').classList.contains('is-open')) sidebar.toggle(false);
    else if (isShown()) log.toEnd();
  }
  // The arrows with Alt move between conversations.
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!event.altKey || !step || !isShown()) return;
  event.preventDefault();
  const all = conversations.sorted();
  choose(all[(all.indexOf(chosen) + step + all.length) % all.length].key);
});
window.addEventListener('popstate', () => {
  if (isShown()) openAddress(location.hash, 'keep');
  else wantedAddress = location.hash;
});
window.addEventListener('resize', drawCurtain);
window.addEventListener('focus', drawSeen);
window.addEventListener('pagehide', save);
if (window.visualViewport) {
  const fit = () => {
    document.documentElement.style.setProperty('--height', `${window.visualViewport.height}px`);
    if (document.activeElement === $('text')) window.scrollTo(0, 0);
  };
  window.visualViewport.addEventListener('resize', fit);
}
let hiddenAt = null;
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'hidden') {
    hiddenAt = Date.now();
    save();
    return;
  }
  drawSeen();
  if (!session.socket && !session.isLeaving && session.timer !== null) session.comeBack();
  else if (hiddenAt && Date.now() - hiddenAt > 15000) session.test();
});
window.addEventListener('pageshow', (event) => {
  if (event.persisted && !session.isLeaving) session.comeBack();
});
for (const kind of ['keydown', 'pointerdown'])
  document.addEventListener(kind, () => session.touched(), { passive: true });
setInterval(() => log.drawDays(), 60000);

// --- the beginning

for (const id of ['chat-name', 'title']) $(id).textContent = chatName;
if (settings.greeting) {
  $('greeting').hidden = false;
  $('greeting').append(linked(shown(settings.greeting)));
}
const board = boardAddress();
if (board) {
  $('board').href = board;
  $('board').hidden = false;
}
conversations.open('partner');
const signedIn = store.get('session', null);
if (signedIn?.name && signedIn?.token) {
  session.identity = { ...signedIn, password: null };
  recall(signedIn.name);
  showShell(remembered.chosen);
} else {
  showCard();
  $('name').focus();
}
showLook(new URLSearchParams(location.search).has('look'));
if (!$('welcome').hidden) $('name').focus();
window.chatHasStarted = true;
session.connect();
