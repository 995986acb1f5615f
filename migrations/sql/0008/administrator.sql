-- Remembers which e-mail the stack gave its administrator (S1).
set local role pandom_owner;

alter table public.account_settings add column administrator text;

comment on column public.account_settings.administrator is
'SHA-256 of the e-mail that the stack gave its administrator; null: of none yet.';
