-- A password's bcrypt hash as the two columns hold it.
--
-- Errors: a password shorter than 12 characters, or longer than the 72 bytes that
-- bcrypt looks at; encryption asked for and no key.
set local role pandom_definer;

create or replace function public.hash_password(
    password text, hash_key text, out clear text, out encrypted bytea
)
language plpgsql
set search_path = ''
as $$
declare
    rules record;
begin
    if coalesce(length(hash_password.password), 0) < 12
        or octet_length(hash_password.password) > 72
    then
        raise exception 'a password must have at least 12 characters and at most 72 bytes'
            using errcode = 'invalid_parameter_value';
    end if;
    select s.bcrypt_cost, s.encrypt_password_hash into strict rules
    from public.account_settings as s;
    clear := public.crypt(hash_password.password, public.gen_salt('bf', rules.bcrypt_cost));
    if rules.encrypt_password_hash then
        if coalesce(hash_password.hash_key, '') = '' then
            raise exception 'password hashes are encrypted: pass hash_key'
                using errcode = 'invalid_parameter_value';
        end if;
        encrypted := public.pgp_sym_encrypt(
            clear, hash_password.hash_key, 'cipher-algo=aes256, compress-algo=0'
        );
        clear := '*';
    end if;
end
$$;

comment on function public.hash_password(text, text) is
'A password''s bcrypt hash, encrypted where the setting says so.';
