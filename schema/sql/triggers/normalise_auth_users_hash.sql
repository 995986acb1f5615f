-- bcrypt hashes are stored in the form that pgcrypto verifies.
set local role pandom_owner;

create or replace trigger normalise_auth_users_hash
before insert or update of password_hash on public.auth_users
for each row execute function public.normalise_password_hash();

comment on trigger normalise_auth_users_hash on public.auth_users is
'bcrypt hashes are stored in the form that pgcrypto verifies.';
