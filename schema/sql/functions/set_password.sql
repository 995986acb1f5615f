-- Stores a new password of a user, encrypted where the setting says so.
--
-- Ends the user's sessions and withdraws reset and refresh tokens: whoever knew the
-- old password is out. Errors: a password that is too short or longer than bcrypt
-- looks at; encryption without a key.
set local role pandom_definer;

create or replace function public.set_password(
    user_uuid uuid, new_password text, hash_key text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    fresh constant record := public.hash_password(set_password.new_password, set_password.hash_key);
begin
    update public.auth_users as u
    set password_hash = fresh.clear,
        password_hash_encrypted = fresh.encrypted,
        reset_token = null,
        reset_token_expiry = null,
        refresh_token = null,
        refresh_token_expires = null
    where u.uuid = set_password.user_uuid;
    delete from public.sessions as s
    where s.user_uuid = set_password.user_uuid;
end
$$;

comment on function public.set_password(uuid, text, text) is
'Stores a new password, ends the user''s sessions and withdraws tokens.';
