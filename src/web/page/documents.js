// Reads and writes the documents of the protocol (src/protocol.md). Each text message of the
// WebSocket is one document.

const documents = {
  /** Parses a server's document into an object with a `kind`. Returns `null` if it is unknown. */
  read(text) {
    const parsed = new DOMParser().parseFromString(text, 'text/xml');
    const root = parsed.documentElement;
    if (parsed.getElementsByTagName('parsererror').length) return null;
    const child = (name) => [...root.children].find((there) => there.tagName === name);
    const part = (name) => {
      const found = child(name);
      return found ? found.textContent : null;
    };
    // The address of another server's page, from an <elsewhere>. Only http and https are allowed.
    const page = (there) => {
      const web = there && [...there.children].find((part) => part.tagName === 'web');
      return web && /^https?:\/\//.test(web.textContent) ? web.textContent : null;
    };
    const all = (name) => [...root.children].filter((there) => there.tagName === name);
    if (root.tagName === 'CLIENT') {
      return {
        kind: 'said',
        from: root.getAttribute('from') || '?',
        scope: root.getAttribute('scope') || 'partner',
        room: root.getAttribute('room'),
        text: part('message') || '',
        me: root.getAttribute('me') === 'yes',
        old: root.getAttribute('old') === 'yes',
        gap: root.getAttribute('gap') === 'yes',
        time: root.getAttribute('time'),
        to: root.getAttribute('to'),
        id: Number(root.getAttribute('id')) || null,
      };
    }
    if (root.tagName !== 'SERVER') return null;
    if (child('error'))
      return { kind: 'error', code: child('error').getAttribute('code') || '', sentence: part('error') };
    if (child('notice')) return { kind: 'notice', text: part('notice') };
    const command = (part('command') || '').trim();
    if (command) {
      return {
        kind: command,
        username: part('username'),
        room: part('room'),
        partner: part('partner'),
        reason: part('reason'),
        by: part('by'),
        count: Number(part('count')),
        seconds: Number(part('seconds')),
        topic: part('topic'),
        isNew: part('account') === 'new',
        isHere: Boolean(child('here')),
        users: all('user').map((user) => user.textContent),
        isModerator: Boolean(child('moderator')),
        access: part('access'),
        isModerated: Boolean(child('moderated')),
        moderators: all('moderator').map((there) => there.textContent),
        token: part('token'),
        withUser: part('with'),
        more: Boolean(child('more')),
        elsewhere: page(child('elsewhere')),
        rooms: all('room').map((room) => ({ name: room.textContent, members: Number(room.getAttribute('members')) })),
      };
    }
    const max = Number(root.getAttribute('max')) || 8192;
    if (child('message')) {
      const isIn = part('message').trim() === 'Connection successful';
      return {
        kind: isIn ? 'welcome' : 'wrong-passcode',
        port: root.getAttribute('port'),
        seat: root.getAttribute('seat'),
        max,
      };
    }
    const [port, passcode] = [part('Port'), part('HandshakePasscode')];
    return port && passcode ? { kind: 'ticket', port: port.trim(), passcode: passcode.trim() } : null;
  },

  /** Escapes text for the content of an element. Removes characters that XML can't represent. */
  escaped(text) {
    text = String(text);
    const names = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '\n': '&#10;', '\r': '&#13;', '\t': '&#9;' };
    const possible = text.toWellFormed ? text.toWellFormed() : text;
    // eslint-disable-next-line no-control-regex
    return possible
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
      .replace(/[&<>\n\r\t]/g, (found) => names[found]);
  },

  /** Builds a command with its parts, as in `command('DM', { to: 'bob', message: 'hello' })`. */
  command(name, parts, me) {
    const given = Object.entries(parts || {}).filter(([, value]) => value !== null && value !== undefined);
    const inside = given.map(([part, value]) =>
      value === true ? `<${part}/>` : `<${part}>${documents.escaped(value)}<` + `/${part}>`,
    );
    return `<CLIENT${me ? " me='yes'" : ''}><command>${name}<` + `/command>${inside.join('')}<` + '/CLIENT>';
  },

  /** Builds a message to the partner. */
  message(text, me) {
    // A % at the beginning would name another recipient. Doubling it makes the text ordinary.
    const plain = text.startsWith('%') ? '%' + text : text;
    return `<CLIENT${me ? " me='yes'" : ''}><message>${documents.escaped(plain)}<` + '/message><' + '/CLIENT>';
  },

  handshake(passcode) {
    return `<CLIENT><HandshakePasscode>${documents.escaped(passcode)}<` + '/HandshakePasscode><' + '/CLIENT>';
  },

  /** Returns the length of a document in bytes, which the server limits. */
  bytes(text) {
    return new TextEncoder().encode(text).length;
  },
};
