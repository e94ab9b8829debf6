"""What MoLoRA needs of PEFT. When a new PEFT breaks this, these tests say what has changed."""

import peft.mapping
import pytest

from taia.errors import AdapterError
from taia.molora import MoloraConfig, MoloraModel
from taia.molora.register import register

TABLES = {
    "PEFT_TYPE_TO_CONFIG_MAPPING": MoloraConfig,
    "PEFT_TYPE_TO_TUNER_MAPPING": MoloraModel,
    "PEFT_TYPE_TO_PREFIX_MAPPING": "lora_",
}


@pytest.mark.parametrize("table", TABLES)
def test_peft_s_tables_take_a_method_of_another_library(table):
    found = getattr(peft.mapping, table, None)
    assert isinstance(found, dict), f"peft.mapping has no dict {table} any more"
    assert found["MOLORA"] is TABLES[table]


def test_peft_still_has_no_molora_of_its_own():
    assert "MOLORA" not in list(peft.PeftType), "use PEFT's own registration"


def test_registering_twice_changes_nothing():
    before = {table: dict(getattr(peft.mapping, table)) for table in TABLES}
    register()
    assert before == {table: getattr(peft.mapping, table) for table in TABLES}


def test_another_molora_is_not_replaced(monkeypatch):
    monkeypatch.setitem(peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING, "MOLORA", object)
    with pytest.raises(AdapterError, match="already has a method"):
        register()
    assert peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING["MOLORA"] is object


def test_tables_that_are_gone_are_named(monkeypatch):
    monkeypatch.delattr(peft.mapping, "PEFT_TYPE_TO_PREFIX_MAPPING")
    with pytest.raises(AdapterError, match="PEFT_TYPE_TO_PREFIX_MAPPING"):
        register()
