// The first visit: one card that asks for a name, and for what the server needs besides.

class Welcome {
  constructor(session, calls) {
    this.session = session;
    this.calls = calls; // { guest(), look() }
    this.step = 'name'; // name, password or invitation
    $('login').addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    $('guest').addEventListener('click', () => calls.guest());
    $('other-name').addEventListener('click', () => {
      this.session.attempt = null;
      this.askName();
    });
    $('show-password').addEventListener('change', () => {
      $('password').type = $('show-password').checked ? 'text' : 'password';
    });
    document.querySelector('#login .look').addEventListener('click', () => calls.look());
  }

  /** Shows the fields of a step, and what is wrong with the last one. */
  draw(step, why = '') {
    this.step = step;
    $('login-wrong').textContent = why;
    $('name').readOnly = step !== 'name';
    $('name-rule').hidden = step !== 'name';
    $('password-part').hidden = step !== 'password';
    $('invitation-part').hidden = step !== 'invitation';
    $('other-name').hidden = step === 'name';
    for (const id of ['guest', 'guest-rule']) $(id).hidden = step !== 'name';
    if ($('welcome').hidden) return;
    const field = $(step);
    field.focus();
    if (why) field.select();
  }

  askName(why, name) {
    if (name) $('name').value = name;
    this.draw('name', why);
  }

  askPassword(name, isNew, why) {
    $('name').value = name;
    $('password-label').textContent = isNew ? 'Choose a password' : 'Password';
    $('password').autocomplete = isNew ? 'new-password' : 'current-password';
    $('password').value = '';
    const { least } = settings;
    $('password-rule').textContent =
      `${name} is a new name here. You need the password to use it again.` +
      (least > 1 ? ` Use at least ${least} characters.` : '');
    $('password-rule').hidden = !isNew;
    this.draw('password', why);
  }

  askInvitation(name, isWrong) {
    $('name').value = name;
    $('invitation').value = '';
    this.draw(
      'invitation',
      isWrong
        ? 'Invalid invitation. Each one works only once.'
        : `The name ${name} is new, and this server needs an invitation for it.`,
    );
  }

  submit() {
    const [name, password, code] = [$('name').value.trim(), $('password').value, $('invitation').value.trim()];
    if (!this.session.isIn) {
      $('login-wrong').textContent = 'Not connected yet. Try again in a moment.';
      this.session.comeBack();
    } else if (this.step === 'name') {
      if (/^[A-Za-z0-9_.-]{1,32}$/.test(name)) this.session.login(name);
      else this.askName(name ? 'A name can have only a to z, digits, _ . and -' : 'Enter a name.');
    } else if (this.step === 'password') {
      if (password) this.session.prove(password);
      else this.draw('password', 'Enter a password.');
    } else if (code) {
      this.session.invite(code, name);
    }
  }

  /** Forgets the passwords once they have been used. */
  forget() {
    for (const id of ['password', 'invitation']) $(id).value = '';
    $('show-password').checked = false;
    $('password').type = 'password';
  }
}
