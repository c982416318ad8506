"""What executor and monitor share: the view of the account that joins what the broker and the store say."""
