"""What PEFT itself does on the meta device, to hold the rules of `lora_probe.peft_rules` against."""
