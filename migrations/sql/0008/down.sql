-- Forgets which e-mail the stack gave its administrator.
set local role pandom_owner;

alter table public.account_settings drop column administrator;
